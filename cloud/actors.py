"""The run's Ray actors: gateways, learner, inference, restarted without limit, each a function of what lies on disk.

One machine is `ray.init()`, a cluster is `ray.address=auto`; the code is the same. Every actor runs its part in one
thread and answers `status` in another. A killed actor is started again by Ray and its `run` is called again.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from cloud.config import LaunchConfig
from cloud.gang import Gang
from cloud.inference.actor import INFERENCE, InferenceActor, places_of
from cloud.learner_actor import LearnerActor
from cloud.ray_session import STATUS_S, STOP_S, actor, free_port, init_ray, result
from cloud.run import RunFolder
from cloud.shards.assign import Load
from cloud.shards.running import RunningGateways
from user_rl.errors import UserRlError
from user_rl.fleet import RunDoors

LEARNER = "learner"  # the actor's name in the run's Ray namespace


class Cloud:
    """All actors, as the launcher sees them. All calls from one thread."""

    def __init__(self, folder: RunFolder, config: LaunchConfig) -> None:
        """Brings Ray up: before this process has gRPC threads, which Ray's forks would inherit half of."""
        self._folder, self._config = folder, config
        self._gateways = RunningGateways(folder, config)
        inference = config.inference
        self._inference_port = free_port(config.gateway.host, inference.port) if inference.serve else None
        self._places = places_of(config, self._inference_port)
        init_ray(config, folder.name)
        self._seen: dict[str, Any] = {}
        self._learner: Any = None
        self._inference: Any = None
        self._gang: Gang | None = None
        self._runs: dict[str, Any] = {}  # what each actor's `run` will return

    @property
    def doors(self) -> RunDoors:
        """Where edges find all of it."""
        return replace(self._gateways.doors, inference=self._places)

    def start(self) -> None:
        """Starts the gateways: robots may come; and the inference service, where the run has one."""
        self._runs |= self._gateways.start()
        if self._inference_port is not None:
            place = actor(InferenceActor, INFERENCE)
            self._inference = place.remote(str(self._folder.root), self._config, self._inference_port)
            self._runs[INFERENCE] = self._inference.run.remote()

    def keep_shards(self, cells: Mapping[str, Load]) -> str:
        """See RunningGateways.keep."""
        return self._gateways.keep(cells)

    @property
    def learns(self) -> bool:
        """Whether the learner was started and not paused since."""
        return self._learner is not None

    def start_learner(self, gang: Gang | None) -> None:
        """Starts the learner, on the accelerators of `gang` where it has some; it goes on where it stopped."""
        where, self._gang = {} if gang is None else gang.options(), gang
        made = actor(LearnerActor, LEARNER, **where)
        self._learner = made.remote(str(self._folder.root), self._config, self._gateways.names)
        self._runs[LEARNER] = self._learner.run.remote()

    def pause_learner(self) -> None:
        """Ends the learner after a checkpoint, and gives its accelerators back to Ray."""
        self.stop_learner()
        ray.kill(self._learner)
        self._learner = None
        del self._runs[LEARNER]
        if self._gang is not None:
            self._gang.close()
            self._gang = None

    def done(self) -> bool:
        """Whether the learner has ended; raises what ended any actor."""
        ended, _ = ray.wait(list(self._runs.values()), num_returns=1, timeout=0)
        for run in ended:
            result(run, None)
        return LEARNER in self._runs and self._runs[LEARNER] in ended

    def status(self) -> dict[str, Any]:
        """What all say; an actor that is just being started again keeps its last word."""
        if self._learner is None:
            self._seen["phase"] = f"{LEARNER} waits for its accelerators"
        else:
            self._ask(self._learner, LEARNER)
        if self._inference is not None:
            self._ask(self._inference, INFERENCE)
        self._seen |= self._gateways.status()
        return dict(self._seen)

    def stop_learner(self) -> None:
        """Lets the learner write its last checkpoint."""
        if self._learner is not None:
            result(self._learner.stop.remote(), STOP_S)
            result(self._runs[LEARNER], STOP_S)

    def close(self) -> None:
        """Ends what serves, the gateways after their last commit, and Ray; safe to call twice."""
        if self._inference is not None:
            with suppress(GetTimeoutError, RayActorError, UserRlError):
                result(self._inference.stop.remote(), STOP_S)
                result(self._runs[INFERENCE], STOP_S)
        self._gateways.close(self._runs)
        self._learner = self._inference = None
        ray.shutdown()

    def _ask(self, one: Any, name: str) -> None:  # noqa: ANN401  # an actor's handle
        try:
            self._seen |= result(one.status.remote(), STATUS_S)
        except (GetTimeoutError, RayActorError):
            self._seen["phase"] = f"{name} is starting"
