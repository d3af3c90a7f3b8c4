"""The gateway's Ray actor, in a module of its own that imports no torch: it is back within a second or two."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.authority import Authority
from cloud.claim import token_reader
from cloud.gateway import Gateway, GatewayConfig
from cloud.run import RunFolder
from user_rl.clock import SystemClock
from user_rl.log import Log, LogConfig


@dataclass(frozen=True, kw_only=True)
class GatewayPlan:
    """What a gateway is told of its run's configuration."""

    home: str  # keys and enrolments
    gateway: GatewayConfig
    log: LogConfig
    demonstrations: int  # that the run wants
    demonstrations_each: int | None  # of them from one cell; None: whoever comes first


class GatewayActor:
    """The gateway in its process."""

    def __init__(self, root: str, plan: GatewayPlan, ports: tuple[int, int]) -> None:
        folder = RunFolder(Path(root))
        authority = Authority(Path(plan.home).expanduser() / "authority")
        self._log = Log(folder.log, plan.log)
        self._gateway = Gateway(
            folder.name, self._log, folder.weights, plan.gateway.at(*ports), keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=token_reader(folder.leases), clock=SystemClock(),
            demonstrations=plan.demonstrations,
        )  # fmt: skip
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
        self._gateway.set_permit(rows)

    def status(self) -> dict[str, Any]:
        """The gateway's counters, and this process."""
        return {"gateway_pid": os.getpid(), "gateway": self._gateway.status()}
