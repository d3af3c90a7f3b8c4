"""Lab: a robot behind a NAT, an impaired link, a cloud; made for one test or benchmark and removed with it.

    robot 10.77.1.2 ── 10.77.1.1 router 10.77.9.1 ══ link ══ 10.77.9.2 cloud

The router masquerades: the cloud sees 10.77.9.1 and can dial nobody behind it. `address` moves the robot's own end.
"""

import os
import shutil
import uuid
from contextlib import ExitStack
from pathlib import Path

from scripts.netlab.link import Impairment, Link
from scripts.netlab.namespaces import Namespace, join

CLOUD = "10.77.9.2"
WAN = Impairment(delay_ms=40.0, rate_mbit=20.0)  # each way: 80 ms there and back
LOSSY_WAN = Impairment(delay_ms=40.0, rate_mbit=20.0, loss=0.01)


def missing() -> str:
    """Why there can be no lab here; empty: there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "the impaired link needs /dev/net/tun"
    absent = [program for program in ("ip", "nft", "sysctl") if shutil.which(program) is None]
    return f"needs {', '.join(absent)}" if absent else ""


class Lab:
    """The three namespaces and the link. A context manager."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:5]
        with ExitStack() as undo:
            spaces = [Namespace(f"{what}{tag}") for what in ("ur", "un", "uc")]
            for space in spaces:
                undo.callback(space.close)
            self.robot, self.router, self.cloud = spaces
            self._cable, _ = join(self.robot, "10.77.1.2/24", self.router, "10.77.1.1/24")
            self.robot.route("10.77.1.1")
            self.link = Link(self.router, "10.77.9.1", self.cloud, CLOUD)
            undo.callback(self.link.close)
            self.router.masquerade(self.link.devices[0])
            self._undo = undo.pop_all()

    def address(self, last: int) -> None:
        """The robot gets 10.77.1.`last`, as from a DHCP server: the connections that it had are dead."""
        self.robot.run("ip", "addr", "flush", "dev", self._cable)
        self.robot.run("ip", "addr", "add", f"10.77.1.{last}/24", "dev", self._cable)
        self.robot.route("10.77.1.1")

    def close(self) -> None:
        """Removes everything; safe to call twice."""
        self._undo.close()

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
