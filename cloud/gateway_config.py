"""The gateway's settings: where it listens, how large and how old its commits may be, what one robot may take."""

from dataclasses import dataclass, field, replace

from cloud.shards.share import check_shards
from user_rl.errors import ConfigError
from user_rl.log.upkeep import VERIFY_HOURS
from user_rl.turnstile import PeerLimits

MOST_GATHER_MS = 600  # a row is on the cloud's disk within a second


@dataclass(frozen=True, kw_only=True)
class GatewayConfig:
    """Where the gateway listens, and the bounds of its groups and waits."""

    host: str = "127.0.0.1"
    port: int = 0  # of the experience socket; 0: any free one
    weights_port: int = 0
    labels_port: int = 0
    live_port: int = 0
    advertise: str | None = None  # the host that edges are told, where it is not `host`
    group_bytes: int = 8 * 2**20  # a commit's size at most
    group_s: float = 0.01  # a commit's age at most
    retry_s: float = 1.0  # between commits on a full disk
    lost_after_s: float = 10.0  # a peer that cannot be reached for so long is forgotten
    small_group_bytes: int = 2**18  # below it a commit waits as long as the last one took: half the time at most
    crowd: int = 16  # so many streams in a group share a commit that may be `crowd_s` old: fewer, larger commits
    crowd_s: float = 0.05
    gather_cells: int = 64  # with more of them, each lets its rows wait and sends them together
    gather_ms: int = 100  # so long for each `gather_cells` of them, 600 at most
    tick_s: float = 0.02  # between looks at stop, permits and full disks when nothing arrives
    part_bytes: int = 2**20  # of the weights, per answer, at most
    verify_hours: float = VERIFY_HOURS  # between two looks at a sealed segment's bytes
    limits: PeerLimits = field(default_factory=PeerLimits)  # what one robot may take of each socket
    shards: int = 1  # gateways of the run, each with a log of its own; see cloud.shards
    dead_after_s: float = 15.0  # a shard that is silent for so long loses its cells to the others

    def __post_init__(self) -> None:
        if not self.verify_hours > 0:
            raise ConfigError(
                f"gateway.verify_hours = {self.verify_hours}, allowed more than 0; leave it out for a day"
            )
        if not (self.gather_cells >= 1 and 0 <= self.gather_ms <= MOST_GATHER_MS):
            text = f"gateway.gather_cells, gather_ms = {self.gather_cells}, {self.gather_ms}"
            raise ConfigError(f"{text}, allowed from 1, 0 to {MOST_GATHER_MS}; leave both out for 64, 100")
        check_shards(self.shards, self.dead_after_s)

    def at(self, port: int, weights_port: int, live_port: int = 0, *, shard: int = 0) -> "GatewayConfig":
        """The same, at these ports; the first shard alone takes labels."""
        labels_port = 0 if shard else self.labels_port
        return replace(self, port=port, weights_port=weights_port, live_port=live_port, labels_port=labels_port)
