"""The run's Ray actors: the gateway and the learner, restarted without limit, each a function of what lies on disk.

One machine is `ray.init()`, a cluster is `ray.address=auto`; the code is the same. Every actor runs its part in one
thread and answers `status` in another. A killed actor is started again by Ray and its `run` is called again.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Mapping
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
from cloud.shards.assign import Load
from cloud.shards.gateways import Gateways
from cloud.shards.keeper import Fenced, Keeper, fence_dead
from cloud.shards.reader import is_sharded
from cloud.shards.share import Elsewhere
from cloud.shards.table import ShardTable, shard_opens_at
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, StorageBusy, UserRlError
from user_rl.fleet import Doors, RunDoors
from user_rl.log import Log, LogConfig

STATUS_S = 1.0
STOP_S = 30.0
LOCK_WAIT_S = 10.0
GATEWAY, LEARNER = "gateway", "learner"  # the actors' names in the run's Ray namespace


def gateway_name(shard: int) -> str:
    """What the gateway of a shard is called."""
    return f"{GATEWAY}-{shard}" if shard else GATEWAY


class GatewayActor:
    """The gateway in its process."""

    def __init__(self, root: str, config: LaunchConfig, ports: tuple[int, int], shard: int = 0) -> None:
        folder, home = RunFolder(Path(root)), Path(config.home).expanduser()
        authority = Authority(home / "authority")
        self._log = _open_log(folder.log_of(shard), config.log)
        self._gateway = Gateway(
            folder.name, self._log, folder.weights, config.gateway.at(*ports, shard),
            keys=authority.server_bundle.curve, allowed=authority.allowed, tokens=token_reader(folder.leases),
            clock=SystemClock(), demonstrations=config.demonstrations.count,
        )  # fmt: skip
        if is_sharded(folder):
            self._gateway.be_shard(shard_opens_at(folder.shards, shard), takes_labels=not shard)
        self._alone = config.gateway.shards == 1  # else its permit waits until it knows what the others have
        self._permit: int | None = 0
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
        self._permit = rows
        if self._alone:
            self._gateway.set_permit(rows)

    def share(self, elsewhere: Elsewhere) -> None:
        """See Gateway.share."""
        self._gateway.share(elsewhere)
        self._alone = True
        self._gateway.set_permit(self._permit)

    def fence(self, cell: str) -> tuple[dict[str, int], int]:
        """See Gateway.fence."""
        return self._gateway.fence(cell)

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
            permit=_teller([gateway_name(shard) for shard in range(config.gateway.shards)]),
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
        self._ports = [_free_ports(config, shard) for shard in range(config.gateway.shards)]
        _init_ray(config, folder.name)
        self._seen: dict[str, Any] = {}
        self._gateways: dict[int, Any] = {}
        self._watched: Gateways | None = None
        self._keeper: Keeper | None = None
        self._learner: Any = None
        self._gang: Gang | None = None
        self._runs: dict[str, Any] = {}  # what each actor's `run` will return

    @property
    def doors(self) -> RunDoors:
        """Where edges find the gateways' sockets."""
        doors = {shard: self._doors_at(ports) for shard, ports in enumerate(self._ports)}
        return RunDoors(doors=doors[0], cells={} if self._keeper is None else self._keeper.doors(doors))

    def _doors_at(self, ports: tuple[int, int]) -> Doors:
        host = self._config.gateway.advertise or self._config.gateway.host
        experience, weights = (f"tcp://{host}:{port}" for port in ports)
        return Doors(experience=experience, weights=weights)

    def start(self) -> None:
        """Starts the gateways: robots may come."""
        several = self._config.gateway.shards > 1 or is_sharded(self._folder)
        table = ShardTable(self._folder.shards) if several else None
        for shard, ports in enumerate(self._ports):
            actor = _actor(GatewayActor, gateway_name(shard))
            self._gateways[shard] = actor.remote(str(self._folder.root), self._config, ports, shard)
            self._runs[gateway_name(shard)] = self._gateways[shard].run.remote()
        watched = Gateways(self._gateways, dead_after_s=self._config.gateway.dead_after_s, clock=SystemClock())
        self._watched = watched
        if table is not None:
            self._keeper = Keeper(table, lambda shard, cell: watched.fence(shard, cell, self._fence_dead))

    def keep_shards(self, cells: Mapping[str, Load]) -> str:
        """Moves cells where a shard has died, come back or joined; what hinders it, for a person, empty: nothing."""
        if self._keeper is None or self._watched is None:
            return ""
        self._watched.share()
        self._keeper.tick(cells, dict.fromkeys(self._watched.living, self._config.ray.site))
        return self._keeper.trouble

    def _fence_dead(self, shard: int, cell: str) -> Fenced | None:
        return fence_dead(self._folder.log_of(shard), cell, self._folder.name)

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
        """What all say; an actor that is just being started again keeps its last word."""
        try:
            if self._learner is None:
                self._seen["phase"] = f"{LEARNER} waits for its accelerators"
            else:
                self._seen |= _get(self._learner.status.remote(), STATUS_S)
        except (GetTimeoutError, RayActorError):
            self._seen["phase"] = f"{LEARNER} is starting"
        if self._watched is not None:
            self._look_at_gateways(self._watched)
        return dict(self._seen)

    def _look_at_gateways(self, watched: Gateways) -> None:
        watched.look()
        silent = [gateway_name(shard) for shard in self._gateways if shard not in watched.speaking]
        if silent or not watched.seen:
            self._seen["phase"] = f"{', '.join(silent) or GATEWAY} is starting"
        self._seen |= watched.seen.get(0, {})
        if self._keeper is not None:
            self._seen["shards"] = {shard: seen["gateway"] for shard, seen in watched.seen.items()}
            self._seen["gateway_pids"] = {shard: seen["gateway_pid"] for shard, seen in watched.seen.items()}
            self._seen["shard_moves"] = self._keeper.moved

    def stop_learner(self) -> None:
        """Lets the learner write its last checkpoint."""
        if self._learner is not None:
            _get(self._learner.stop.remote(), STOP_S)
            _get(self._runs[LEARNER], STOP_S)

    def close(self) -> None:
        """Ends the gateways after their last commit, and Ray; safe to call twice."""
        for shard, gateway in self._gateways.items():
            try:
                _get(gateway.stop.remote(), STOP_S)
                _get(self._runs[gateway_name(shard)], STOP_S)
            except (GetTimeoutError, RayActorError, UserRlError):
                pass  # whatever it had acknowledged is on disk
        self._gateways, self._watched, self._learner = {}, None, None
        ray.shutdown()


def _teller(names: list[str]) -> Callable[[int | None], object]:
    gateways = [ray.get_actor(name) for name in names]
    return lambda rows: [gateway.set_permit.remote(rows) for gateway in gateways]


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


def _open_log(path: Path, config: LogConfig) -> Log:
    """The log, once whoever looks how far a dead shard had come has looked."""
    clock = SystemClock()
    until_s = clock.now_s() + LOCK_WAIT_S
    while True:
        try:
            return Log(path, config)
        except StorageBusy:
            if clock.now_s() >= until_s:
                raise
            clock.sleep_until(clock.now_s() + STATUS_S / 10)


def _free_ports(config: LaunchConfig, shard: int) -> tuple[int, int]:
    """The configured ports, the next two for each further shard, or free ones; they stay the run's own."""
    asked = (config.gateway.port, config.gateway.weights_port)
    found = [_port(config.gateway.host, wanted + 2 * shard if wanted else 0) for wanted in asked]
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
