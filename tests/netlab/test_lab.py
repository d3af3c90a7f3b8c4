"""The lab itself: what a test over it relies on. Datagrams to an echo in the cloud's namespace."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from scripts.netlab import Impairment, Lab, missing
from scripts.netlab.lab import CLOUD

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "there can be a lab")]
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 999))
print(flush=True)
while True:
    s.sendto(*s.recvfrom(2000))
"""
ASK = """
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[2]))
began = time.monotonic()
for i in range(int(sys.argv[3])):
    s.sendto(bytes(int(sys.argv[4])), (sys.argv[1], 999))
came = 0
try:
    while came < int(sys.argv[3]):
        s.recv(2000)
        came += 1
        last = time.monotonic()
except OSError:
    pass
print(came, last - began if came else 0.0)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        echo = subprocess.Popen([*made.cloud.prefix, sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
        assert echo.stdout is not None
        echo.stdout.readline()
        yield made
        echo.kill()
        echo.wait()
        echo.stdout.close()


def ask(lab: Lab, *, count: int = 1, size: int = 100, patience_s: float = 5.0) -> tuple[int, float]:
    """How many of `count` datagrams came back, and how long the last one took."""
    came, took_s = lab.robot.run(sys.executable, "-c", ASK, CLOUD, f"{patience_s}", f"{count}", f"{size}").split()
    return int(came), float(took_s)


def test_a_packet_is_delayed_there_and_back(lab: Lab) -> None:
    lab.link.shape(Impairment(delay_ms=40.0))
    came, took_s = ask(lab)
    assert came == 1
    assert took_s >= 0.08


def test_a_rate_stretches_a_burst_and_a_short_queue_drops_its_end(lab: Lab) -> None:
    lab.link.shape(up=Impairment(rate_mbit=2.0), down=Impairment())
    came, took_s = ask(lab, count=50, size=1000)
    assert came == 50
    assert took_s >= 49 * 1028 * 8 / 2e6
    lab.link.shape(up=Impairment(rate_mbit=2.0, queue_bytes=5000))
    before = lab.link.counts()["up"][2]
    came, _ = ask(lab, count=50, size=1000, patience_s=0.5)
    assert 5 <= came < 50
    assert lab.link.counts()["up"][2] == before + 50 - came


def test_a_share_of_the_packets_is_lost(lab: Lab) -> None:
    lab.link.shape(up=Impairment(loss=0.5), down=Impairment())
    came, _ = ask(lab, count=200, patience_s=0.5)
    assert 50 < came < 150


def test_a_cut_swallows_without_a_word_and_is_mended(lab: Lab) -> None:
    lab.link.shape(Impairment())
    lab.link.cut(down=False)
    assert ask(lab, patience_s=0.3)[0] == 0
    lab.link.mend()
    assert ask(lab)[0] == 1


def test_nobody_dials_in_through_the_router_and_a_new_address_dials_out(lab: Lab) -> None:
    dial = "import socket; socket.create_connection(('10.77.1.2', 22), 0.5)"
    with pytest.raises(subprocess.CalledProcessError, match="non-zero"):
        lab.cloud.run(sys.executable, "-c", dial)
    lab.address(9)
    assert ask(lab)[0] == 1
    assert "10.77.1.9" in lab.robot.run("ip", "addr")


def test_the_bytes_of_an_interface_are_counted(lab: Lab) -> None:
    device = lab.link.devices[1]
    before, _ = lab.cloud.bytes_of(device)
    ask(lab, count=10, size=1000)
    assert 10_000 <= lab.cloud.bytes_of(device)[0] - before < 20_000


def test_nothing_is_left_when_it_is_closed() -> None:
    with Lab() as made:
        names = [space.name for space in (made.robot, made.router, made.cloud)]
    there = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert not [name for name in names if name in there]
