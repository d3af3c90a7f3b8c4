"""A gateway's Ray actor, in a module of its own that imports no torch: it is back within a second or two."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.authority import Authority
from cloud.claim import token_reader
from cloud.gateway import Gateway, GatewayConfig
from cloud.run import RunFolder
from cloud.shards.reader import is_sharded
from cloud.shards.share import Elsewhere
from cloud.shards.table import shard_opens_at
from user_rl.clock import SystemClock
from user_rl.errors import StorageBusy
from user_rl.log import Log, LogConfig

LOCK_WAIT_S = 10.0
LOOK_S = 0.02
SWITCH_INTERVAL_S = 0.0005  # a thread that computes lets a ping's thread in soon


@dataclass(frozen=True, kw_only=True)
class GatewayPlan:
    """What a gateway is told of its run's configuration."""

    home: str  # keys and enrolments
    gateway: GatewayConfig  # with the ports of its shard
    log: LogConfig
    demonstrations: int  # that the run wants
    demonstrations_each: int | None  # of them from one cell; None: whoever comes first


class GatewayActor:
    """The gateway of one shard, in its process."""

    def __init__(self, root: str, plan: GatewayPlan, shard: int) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        folder = RunFolder(Path(root))
        authority = Authority(Path(plan.home).expanduser() / "authority")
        self._log = _open_log(folder.log_of(shard), plan.log)
        self._gateway = Gateway(
            folder.name, self._log, folder.weights, plan.gateway, keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=token_reader(folder.leases), clock=SystemClock(),
            demonstrations=plan.demonstrations,
        )  # fmt: skip
        if is_sharded(folder):
            self._gateway.be_shard(shard_opens_at(folder.shards, shard), takes_labels=not shard)
        self._alone = plan.gateway.shards == 1  # else its permit waits until it knows what the others have
        self._permit: int | None = 0
        self._gateway.share_demonstrations(plan.demonstrations_each)
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
            clock.sleep_until(clock.now_s() + LOOK_S)
