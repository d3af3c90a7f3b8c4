"""Link: what a test or a benchmark does to a network: delay, loss, rate, and packets that vanish without a word."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec

from scripts.netlab.namespaces import Namespace

ROOT = Path(__file__).parents[2]


class Impairment(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a link. The defaults do nothing to it."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0  # added, uniform; the order of packets is kept
    loss: float = 0.0  # share of packets
    rate_mbit: float = 0.0  # 0: as fast as the relay is
    queue_bytes: int = 250_000  # that wait for the rate; what comes on top is dropped
    cut: bool = False  # everything vanishes: no reset, no answer


class Link:
    """Two TUN devices with a relay between them; `up` is from `left` to `right`."""

    def __init__(self, left: Namespace, left_address: str, right: Namespace, right_address: str) -> None:
        """Addresses as `10.9.0.1`: each end knows the other."""
        self.devices = (f"{left.name}-t"[:15], f"{right.name}-t"[:15])
        argv = [left.name, self.devices[0], right.name, self.devices[1]]
        self._relay = subprocess.Popen(
            [sys.executable, "-m", "scripts.netlab.relay", *argv], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._read()
        ends = ((left, left_address, right_address), (right, right_address, left_address))
        for (space, address, other), device in zip(ends, self.devices, strict=True):
            space.run("ip", "addr", "add", address, "peer", other, "dev", device)
            space.run("ip", "link", "set", device, "up", "txqueuelen", "1000")
        self._up = self._down = Impairment()

    def shape(self, both: Impairment | None = None, *, up: Impairment | None = None, down: Impairment | None = None,
              ) -> None:  # fmt: skip
        """What the link does from now on; a direction that is not named stays as it is."""
        self._up, self._down = up or both or self._up, down or both or self._down
        self._tell(up=self._up, down=self._down)

    def cut(self, *, up: bool = True, down: bool = True) -> None:
        """Every packet of these directions vanishes until `mend`."""
        self._tell(
            up=msgspec.structs.replace(self._up, cut=up), down=msgspec.structs.replace(self._down, cut=down)
        )  # fmt: skip

    def mend(self) -> None:
        """Ends a cut."""
        self._tell(up=self._up, down=self._down)

    def counts(self) -> dict[str, list[int]]:
        """{up, down: [packets, bytes, dropped]} since it began."""
        return self._tell()

    def close(self) -> None:
        """Ends the relay; its devices go with it. Safe to call twice."""
        if self._relay.stdin is not None and not self._relay.stdin.closed:
            self._relay.stdin.close()
            self._relay.wait(10)
            assert self._relay.stdout is not None
            self._relay.stdout.close()

    def _tell(self, **shapes: Impairment) -> dict[str, list[int]]:
        assert self._relay.stdin is not None
        self._relay.stdin.write(json.dumps({k: msgspec.to_builtins(v) for k, v in shapes.items()}) + "\n")
        self._relay.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, list[int]]:
        assert self._relay.stdout is not None
        line = self._relay.stdout.readline()
        if not line:
            raise RuntimeError("the link's relay has ended; see its last words above")
        counts: dict[str, list[int]] = json.loads(line)
        return counts
