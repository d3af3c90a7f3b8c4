"""The run's Ray actors: the gateway and the learner, restarted without limit, each a function of what lies on disk.

One machine is `ray.init()`, a cluster is `ray.address=auto`; the code is the same. Every actor runs its part in one
thread and answers `status` in another. A killed actor is started again by Ray and its `run` is called again.
"""

import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from cloud.authority import Authority
from cloud.claim import token_reader
from cloud.config import LaunchConfig, algorithm_config
from cloud.gang import Gang
from cloud.gateway import Gateway
from cloud.learner import Learner
from cloud.run import RunFolder
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, UserRlError
from user_rl.fleet import Doors, RunDoors
from user_rl.log import Log

STATUS_S = 1.0
STOP_S = 30.0
GATEWAY, LEARNER = "gateway", "learner"  # the actors' names in the run's Ray namespace


class GatewayActor:
    """The gateway in its process."""

    def __init__(self, root: str, config: LaunchConfig, ports: tuple[int, int, int]) -> None:
        sys.setswitchinterval(0.0005)  # a thread that computes lets a ping's thread in soon
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
        self._gang: Gang | None = None
        self._runs: dict[str, Any] = {}  # what each actor's `run` will return

    @property
    def doors(self) -> RunDoors:
        """Where edges find the gateway's sockets."""
        host = self._config.gateway.advertise or self._config.gateway.host
        experience, weights, live = (f"tcp://{host}:{port}" for port in self._ports)
        return RunDoors(doors=Doors(experience=experience, weights=weights, live=live))

    def start(self) -> None:
        """Starts the gateway: robots may come."""
        self._gateway = _actor(GatewayActor, GATEWAY).remote(str(self._folder.root), self._config, self._ports)
        self._runs[GATEWAY] = self._gateway.run.remote()

    @property
    def learns(self) -> bool:
        """Whether the learner was started and not paused since."""
        return self._learner is not None

    def start_learner(self, gang: Gang | None) -> None:
        """Starts the learner, on the accelerators of `gang` where it has some; it goes on where it stopped."""
        where, self._gang = {} if gang is None else gang.options(), gang
        self._learner = _actor(LearnerActor, LEARNER, **where).remote(str(self._folder.root), self._config)
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
        """Whether the learner has ended; raises what ended either actor."""
        ended, _ = ray.wait(list(self._runs.values()), num_returns=1, timeout=0)
        for run in ended:
            _get(run, None)
        return LEARNER in self._runs and self._runs[LEARNER] in ended

    def status(self) -> dict[str, Any]:
        """What both say; an actor that is just being started again keeps its last word."""
        for actor, name in ((self._learner, LEARNER), (self._gateway, GATEWAY)):
            try:
                if actor is None:
                    self._seen["phase"] = f"{name} waits for its accelerators"
                    continue
                self._seen |= _get(actor.status.remote(), STATUS_S)
            except (GetTimeoutError, RayActorError):
                self._seen["phase"] = f"{name} is starting"
        return dict(self._seen)

    def stop_learner(self) -> None:
        """Lets the learner write its last checkpoint."""
        if self._learner is not None:
            _get(self._learner.stop.remote(), STOP_S)
            _get(self._runs[LEARNER], STOP_S)

    def close(self) -> None:
        """Ends the gateway after its last commit, and Ray; safe to call twice."""
        if self._gateway is not None:
            try:
                _get(self._gateway.stop.remote(), STOP_S)
                _get(self._runs[GATEWAY], STOP_S)
            except (GetTimeoutError, RayActorError, UserRlError):
                pass  # whatever it had acknowledged is on disk
            self._gateway = self._learner = None
        ray.shutdown()


def _actor(cls: type, name: str, **where: Any) -> Any:  # noqa: ANN401  # Ray's actor class
    return ray.remote(cls).options(
        name=name, num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=4, **where
    )


def _get(reference: Any, timeout_s: float | None) -> Any:  # noqa: ANN401  # Ray's references hold anything
    try:
        return ray.get(reference, timeout=timeout_s)
    except RayTaskError as error:
        cause = error.cause
        raise cause if isinstance(cause, UserRlError) else error from None


def _init_ray(config: LaunchConfig, run: str) -> None:
    """Ray's own token in ~/.ray keeps strangers out of a local session; a cluster's is its owner's affair.

    Ray takes SIGTERM for itself, and a driver then ends without a last checkpoint: it is given back.
    """
    terminated = signal.getsignal(signal.SIGTERM)
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
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)


def _free_ports(config: LaunchConfig) -> tuple[int, int, int]:
    """The configured ports, or free ones that stay the run's own while its actors come and go."""
    gateway = config.gateway
    wanted = (gateway.port, gateway.weights_port, gateway.live_port)
    found = [_port(gateway.host, port) for port in wanted]
    return found[0], found[1], found[2]


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
