"""A real daemon in one network, a real cloud in another, and everything that may happen between them.

One robot lives through all of it, in the order of the file; the last test holds its log against the cloud's.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.netlab import Impairment, Lab, missing
from scripts.netlab.lab import CLOUD, LOSSY_WAN
from tests.edge.plant import FAKE, ROOT, Daemon, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "there can be a lab")]


class Far:
    """The cloud's process in its namespace, the daemon in the robot's."""

    def __init__(self, path: Path, lab: Lab) -> None:
        self.lab = lab
        argv = [*lab.cloud.prefix, sys.executable, "-m", "tests.netlab.far_cloud", str(path), CLOUD]
        self._cloud = subprocess.Popen(argv, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._heard() == "enrolled"
        link = {**FAKE["link"], "answer_s": 2.0, "longest_pause_s": 1.0}
        self.daemon = Daemon(path, {**FAKE, "robot": {"name": "fake", "rate_hz": 20.0}, "link": link}, lab.robot.prefix)
        self.daemon.start()
        assert self._heard() == "ready"

    def rows(self) -> int:
        """Rows that the cloud has, durably."""
        return int(self.ask("rows"))

    def ask(self, word: str) -> str:
        assert self._cloud.stdin is not None
        self._cloud.stdin.write(word + "\n")
        self._cloud.stdin.flush()
        return self._heard()

    def more(self, within_s: float = 30.0) -> None:
        """Waits for new rows."""
        before = self.rows()
        wait_for(lambda: self.rows() > before + 5, within_s)

    def close(self) -> None:
        self.daemon.kill()
        self._cloud.kill()
        self._cloud.wait()
        for stream in (self._cloud.stdin, self._cloud.stdout):
            assert stream is not None
            stream.close()

    def _heard(self) -> str:
        assert self._cloud.stdout is not None
        return self._cloud.stdout.readline().strip()


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with Lab() as lab:
        made = Far(tmp_path_factory.mktemp("far"), lab)
        try:
            yield made
        finally:
            made.close()


def passes(for_s: float) -> None:
    """Time in which something stays broken: the subject, not a wait for a condition."""
    time.sleep(for_s)


def test_rows_arrive_from_behind_a_nat(far: Far) -> None:
    far.more()


def test_rows_arrive_over_a_slow_lossy_link(far: Far) -> None:
    far.lab.link.shape(LOSSY_WAN)
    far.more()
    far.lab.link.shape(Impairment(delay_ms=5.0))


def test_packets_that_vanish_for_a_while_cost_nothing(far: Far) -> None:
    far.lab.link.cut()
    before = far.rows()
    passes(2.0)
    assert far.rows() <= before + 5  # what was on its way
    far.lab.link.mend()
    wait_for(lambda: far.rows() >= before + 40, 30.0)  # the rows of the cut are among them


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_link_that_is_half_open_heals(far: Far, way: str) -> None:
    far.lab.link.cut(up=way == "up", down=way == "down")
    passes(1.0)
    far.lab.link.mend()
    far.more()


def test_a_link_that_flaps_lets_rows_through(far: Far) -> None:
    before = far.rows()
    for _ in range(6):
        far.lab.link.cut()
        passes(0.2)
        far.lab.link.mend()
        passes(0.2)
    wait_for(lambda: far.rows() > before + 5, 30.0)


def test_an_interface_that_goes_down_and_comes_back_heals(far: Far) -> None:
    device = far.lab.link.devices[1]
    far.lab.cloud.run("ip", "link", "set", device, "down")
    passes(1.0)
    far.lab.cloud.run("ip", "link", "set", device, "up")
    far.more()


def test_a_robot_with_a_new_address_is_the_same_robot(far: Far) -> None:
    far.lab.address(42)
    far.more()


def test_a_gateway_that_moved_while_nobody_could_say_so_is_found(far: Far) -> None:
    far.lab.link.cut()
    far.ask("bounce")
    passes(0.5)
    far.lab.link.mend()
    far.more()


def test_a_thin_pipe_that_the_kernel_shapes_carries_everything(far: Far) -> None:
    device = far.lab.link.devices[0]
    far.lab.router.run(*f"tc qdisc add dev {device} root tbf rate 256kbit burst 4kb latency 400ms".split())
    far.more()
    far.lab.router.run("tc", "qdisc", "del", "dev", device, "root")


def test_nothing_was_lost_and_nothing_came_twice(far: Far) -> None:
    assert far.daemon.process is not None
    far.daemon.process.send_signal(signal.SIGTERM)
    assert far.daemon.ended() == 0
    assert far.ask("end") == "0 0 0"
