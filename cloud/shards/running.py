"""The gateways of a run, one for each shard: started, watched, and kept in possession of the right cells.

A run with one gateway is a run with one shard, and has no table.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray.exceptions import GetTimeoutError, RayActorError

from cloud.config import LaunchConfig
from cloud.gateway_actor import GatewayActor, GatewayPlan
from cloud.ray_session import STOP_S, actor, free_port, result
from cloud.run import RunFolder
from cloud.shards.assign import Load
from cloud.shards.gateways import Gateways
from cloud.shards.keeper import Fenced, Keeper, fence_dead
from cloud.shards.reader import is_sharded
from cloud.shards.table import ShardTable
from user_rl.clock import SystemClock
from user_rl.errors import UserRlError
from user_rl.fleet import Doors, RunDoors

GATEWAY = "gateway"
Ports = tuple[int, int, int]  # of experience, weights and the live stream


def gateway_name(shard: int) -> str:
    """What the actor of a shard's gateway is called."""
    return f"{GATEWAY}-{shard}" if shard else GATEWAY


class RunningGateways:
    """All calls from one thread; made before Ray is there, for the ports are known from the beginning."""

    def __init__(self, folder: RunFolder, config: LaunchConfig) -> None:
        self._folder, self._config = folder, config
        self._ports = [_free_ports(config, shard) for shard in range(config.gateway.shards)]
        self._actors: dict[int, Any] = {}
        self._watched: Gateways | None = None
        self._keeper: Keeper | None = None

    @property
    def names(self) -> list[str]:
        """The actors'."""
        return [gateway_name(shard) for shard in range(len(self._ports))]

    @property
    def doors(self) -> RunDoors:
        """Where edges find them."""
        doors = {shard: self._doors_at(ports) for shard, ports in enumerate(self._ports)}
        return RunDoors(doors=doors[0], cells={} if self._keeper is None else self._keeper.doors(doors))

    def start(self) -> dict[str, Any]:
        """Starts them; what each one's `run` will return, by name."""
        several = len(self._ports) > 1 or is_sharded(self._folder)
        table = ShardTable(self._folder.shards) if several else None
        for shard, ports in enumerate(self._ports):
            made = actor(GatewayActor, gateway_name(shard))
            self._actors[shard] = made.remote(str(self._folder.root), self._plan(ports, shard), shard)
        dead_after_s = self._config.gateway.dead_after_s
        watched = self._watched = Gateways(self._actors, dead_after_s=dead_after_s, clock=SystemClock())
        if table is not None:
            self._keeper = Keeper(table, lambda shard, cell: watched.fence(shard, cell, self._fence_dead))
        return {gateway_name(shard): gateway.run.remote() for shard, gateway in self._actors.items()}

    def keep(self, cells: Mapping[str, Load]) -> str:
        """Moves cells where a shard has died, come back or joined; what hinders it, for a person, empty: nothing."""
        if self._keeper is None or self._watched is None:
            return ""
        self._watched.share()
        self._keeper.tick(cells, dict.fromkeys(self._watched.living, self._config.ray.site))
        return self._keeper.trouble

    def status(self) -> dict[str, Any]:
        """What they say; the newest word of one that does not."""
        watched = self._watched
        if watched is None:
            return {}
        watched.look()
        silent = [gateway_name(shard) for shard in self._actors if shard not in watched.speaking]
        phase = {"phase": f"{', '.join(silent) or GATEWAY} is starting"} if silent or not watched.seen else {}
        said = {**phase, **watched.seen.get(0, {})}
        if self._keeper is not None:
            said["shards"] = {shard: seen["gateway"] for shard, seen in watched.seen.items()}
            said["gateway_pids"] = {shard: seen["gateway_pid"] for shard, seen in watched.seen.items()}
            said["shard_moves"] = self._keeper.moved
        return said

    def close(self, runs: Mapping[str, Any]) -> None:
        """Ends them after their last commit; safe to call twice. What they had acknowledged is on disk anyway."""
        for shard, gateway in self._actors.items():
            with suppress(GetTimeoutError, RayActorError, UserRlError):
                result(gateway.stop.remote(), STOP_S)
                result(runs[gateway_name(shard)], STOP_S)
        self._actors, self._watched = {}, None

    def _plan(self, ports: Ports, shard: int) -> GatewayPlan:
        config = self._config
        return GatewayPlan(
            home=config.home, gateway=config.gateway.at(*ports, shard=shard), log=config.log,
            demonstrations=config.demonstrations.count, demonstrations_each=config.demonstrations_each,
        )  # fmt: skip

    def _doors_at(self, ports: Ports) -> Doors:
        host = self._config.gateway.advertise or self._config.gateway.host
        experience, weights, live = (f"tcp://{host}:{port}" for port in ports)
        return Doors(experience=experience, weights=weights, live=live)

    def _fence_dead(self, shard: int, cell: str) -> Fenced | None:
        return fence_dead(self._folder.log_of(shard), cell, self._folder.name)


def _free_ports(config: LaunchConfig, shard: int) -> Ports:
    """The configured ports, the next three for each further shard, or free ones; they stay the run's own."""
    asked = (config.gateway.port, config.gateway.weights_port, config.gateway.live_port)
    found = [free_port(config.gateway.host, wanted + 3 * shard if wanted else 0) for wanted in asked]
    return found[0], found[1], found[2]
