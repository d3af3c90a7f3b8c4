"""The run's Ray actors: the gateway and the learner, restarted without limit, each a function of what lies on disk.

One machine is `ray.init()`, a cluster is `ray.address=auto`; the code is the same. Every actor runs its part in one
thread and answers `status` in another. A killed actor is started again by Ray and its `run` is called again.
"""

import logging
import os
import socket
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cloud.authority import Authority
from cloud.claim import token_reader
from cloud.config import LaunchConfig, algorithm_config
from cloud.gateway import Gateway
from cloud.learner import Learner
from cloud.run import RunFolder
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, UserRlError
from user_rl.log import Log

STATUS_S = 1.0
STOP_S = 30.0
GATEWAY = "gateway"  # the actor's name in the run's Ray namespace


class GatewayActor:
    """The gateway in its process."""

    def __init__(self, root: str, config: LaunchConfig, ports: tuple[int, int]) -> None:
        folder, home = RunFolder(Path(root)), Path(config.home).expanduser()
        authority = Authority(home / "authority")
        self._log = Log(folder.log, config.log)
        self._gateway = Gateway(
            folder.name, self._log, folder.weights, config.gateway.at(*ports), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=token_reader(folder.leases), clock=SystemClock(),
            demonstrations=config.demonstrations.count,
        )  # fmt: skip
        self._gateway.share_demonstrations(config.demonstrations_each)
        self._gateway.set_permit(0)  # until the learner says how many: a gateway that comes back floods nobody

    def run(self) -> None:
        """Serves until `stop`."""
        self._gateway.run()
        self._log.close()

    def stop(self) -> None:
        """Ends `run`."""
        self._gateway.stop()

    def set_permit(self, rows: int | None) -> None:
        """See Gateway.set_permit."""
        self._gateway.set_permit(rows)

    def status(self) -> dict[str, Any]:
        """The gateway's counters, and this process."""
        return {"gateway_pid": os.getpid(), "gateway": self._gateway.status()}


class LearnerActor:
    """The learner in its process: nice, one torch thread unless configured, with the gateway to tell its permit to."""

    def __init__(self, root: str, config: LaunchConfig) -> None:
        import torch

        os.nice(10)
        torch.set_num_threads(config.learner.threads)
        folder = RunFolder(Path(root))
        self._learner = Learner(
            folder.root, config.learner, algorithm_config(config.algorithm), config.replay, seed=config.seed,
            demonstrations=config.demonstrations.count, clock=SystemClock(),
            permit=ray.get_actor(GATEWAY).set_permit.remote,
        )  # fmt: skip

    def run(self) -> None:
        """Learns until it is done or stopped."""
        self._learner.run()

    def stop(self) -> None:
        """Ends `run` after a checkpoint."""
        self._learner.stop()

    def status(self) -> dict[str, Any]:
        """Where learning stands, and this process."""
        return {"learner_pid": os.getpid(), **self._learner.status()}


class Cloud:
    """Both actors, as the launcher sees them. All calls from one thread."""

    def __init__(self, folder: RunFolder, config: LaunchConfig) -> None:
        """Brings Ray up: before this process has gRPC threads, which Ray's forks would inherit half of."""
        self._folder, self._config = folder, config
        self._ports = _free_ports(config)
        _init_ray(config, folder.name)
        self._seen: dict[str, Any] = {}
        self._gateway: Any = None
        self._learner: Any = None
        self._runs: list[Any] = []

    @property
    def addresses(self) -> dict[str, str]:
        """Where edges find the gateway's two sockets."""
        host = self._config.gateway.advertise or self._config.gateway.host
        names = ("experience", "weights")
        return {name: f"tcp://{host}:{port}" for name, port in zip(names, self._ports, strict=True)}

    def start(self) -> None:
        """Starts both actors."""
        root = str(self._folder.root)
        self._gateway = _actor(GatewayActor, GATEWAY).remote(root, self._config, self._ports)
        self._learner = _actor(LearnerActor, "learner").remote(root, self._config)
        self._runs = [self._learner.run.remote(), self._gateway.run.remote()]

    def done(self) -> bool:
        """Whether the learner has ended; raises what ended either actor."""
        ended, _ = ray.wait(self._runs, num_returns=1, timeout=0)
        for run in ended:
            _get(run, None)
        return self._runs[0] in ended

    def status(self) -> dict[str, Any]:
        """What both say; an actor that is just being started again keeps its last word."""
        for actor, name in ((self._learner, "learner"), (self._gateway, "gateway")):
            try:
                self._seen |= _get(actor.status.remote(), STATUS_S)
            except (GetTimeoutError, RayActorError):
                self._seen["phase"] = f"{name} is starting"
        return dict(self._seen)

    def stop_learner(self) -> None:
        """Lets the learner write its last checkpoint."""
        if self._learner is not None:
            _get(self._learner.stop.remote(), STOP_S)
            _get(self._runs[0], STOP_S)

    def close(self) -> None:
        """Ends the gateway after its last commit, and Ray; safe to call twice."""
        if self._gateway is not None:
            try:
                _get(self._gateway.stop.remote(), STOP_S)
                _get(self._runs[1], STOP_S)
            except (GetTimeoutError, RayActorError, UserRlError):
                pass  # whatever it had acknowledged is on disk
            self._gateway = self._learner = None
        ray.shutdown()


def _actor(cls: type, name: str) -> Any:  # noqa: ANN401  # Ray's actor class
    return ray.remote(cls).options(name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=4)


def _get(reference: Any, timeout_s: float | None) -> Any:  # noqa: ANN401  # Ray's references hold anything
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, UserRlError) else error from None


def _init_ray(config: LaunchConfig, run: str) -> None:
    """Ray's own token in ~/.ray keeps strangers out of a local session; a cluster's is its owner's affair."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = config.ray.address == "local"
    options: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False} if local else {}
    ray.init(
        address=config.ray.address,
        namespace=f"user-rl-{run}",
        log_to_driver=False,
        logging_level=logging.ERROR,
        **options,
    )


def _free_ports(config: LaunchConfig) -> tuple[int, int]:
    """The configured ports, or free ones that stay the run's own while its actors come and go."""
    found = [_port(config.gateway.host, wanted) for wanted in (config.gateway.port, config.gateway.weights_port)]
    return found[0], found[1]


def _port(host: str, wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError as error:
            raise ConfigError(
                f"gateway port {host}:{wanted}: {error.strerror}, allowed a free one; free it, or give gateway.port=0"
            ) from error
        port: int = probe.getsockname()[1]
        return port
