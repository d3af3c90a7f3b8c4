"""The spooler: a row leaves the ring when it is on the disk and not before, and a full disk holds everything back."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.config import LinkConfig
from edge.ring import Ring
from edge.spooler import Spooler, boot_of, stream_name
from tests.edge.rig import SCHEMA, make_config
from tests.edge.test_ring import make_ring
from user_rl.clock import FakeClock
from user_rl.log import Log, LogConfig
from user_rl.rows import Kind

BOOT = bytes(range(16))
STREAM = stream_name("arm", BOOT.hex(), "run")
BOUND = LogConfig(segment_bytes=2**20)
CONFIG = make_config(link=LinkConfig(commit_ms=20.0, commit_bytes=100 * SCHEMA.row_bytes))


def publish(ring: Ring, steps: range, *, run: bytes = b"run", generation: int = 0) -> None:
    for step in steps:
        row = ring.rows[ring.slot()]
        row["step"], row["run"], row["kind"] = step, run, Kind.LAST
        ring.publish(generation)


class Desk:
    """A ring, a spool and the spooler between them."""

    def __init__(self, path: Path, ring: Ring | None = None, bound: LogConfig = BOUND) -> None:
        self.clock = FakeClock(100.0)
        self.ring = ring or make_ring(256, SCHEMA)
        self.spool = Log(path / "spool", bound)
        self.spooler = Spooler(self.ring, self.spool, CONFIG, BOOT, self.clock)

    def turn(self, after_s: float = 0.1) -> bool:
        self.clock.advance(after_s)
        return self.spooler.turn({})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.spool.close()


def test_rows_are_committed_when_the_oldest_has_waited_long_enough(desk: Desk) -> None:
    publish(desk.ring, range(3))
    assert not desk.turn(0.0)
    assert desk.ring.tail == 0
    assert not desk.turn(0.01)
    assert desk.turn(0.011)
    assert desk.ring.tail == 3
    assert desk.spool.synced(STREAM) == 2
    assert desk.spooler.idle


def test_rows_are_committed_when_there_are_enough_of_them(desk: Desk) -> None:
    publish(desk.ring, range(150))
    assert desk.turn(0.0)
    assert desk.spool.synced(STREAM) == 99
    assert desk.ring.tail == 100


def test_rows_of_many_edges_gather_in_the_ring_and_travel_together(desk: Desk) -> None:
    desk.spooler.gather_s = 0.3
    publish(desk.ring, range(1))
    for step in range(1, 4):  # 10 Hz
        assert not desk.turn(0.09)
        publish(desk.ring, range(step, step + 1))
        assert desk.spool.appended(STREAM) == -1 if STREAM in desk.spool.streams() else True
    assert not desk.turn(0.125)  # appended together
    assert desk.turn(0.021)
    assert [(c.first, c.count) for c in desk.spool.stored(STREAM, 0, 2**20)] == [(0, 4)]
    publish(desk.ring, range(4, 5))
    assert not desk.turn(0.0)
    assert not desk.turn(0.29)
    desk.turn(0.02)
    assert desk.turn(0.021)
    publish(desk.ring, range(5, 105))  # many do not wait
    assert desk.turn(0.0)


def test_what_gathers_is_spooled_at_the_end(desk: Desk) -> None:
    desk.spooler.gather_s = 0.3
    publish(desk.ring, range(3))
    assert desk.spooler.turn({}, at_once=True)
    assert desk.spooler.idle


def test_at_the_end_nothing_waits(desk: Desk) -> None:
    publish(desk.ring, range(3))
    assert desk.spooler.turn({}, at_once=True)
    assert desk.spooler.idle


def test_the_spool_holds_the_very_bytes_of_the_ring(desk: Desk) -> None:
    publish(desk.ring, range(4))
    data = bytes(desk.ring.bytes[: 4 * SCHEMA.row_bytes])
    desk.turn()
    desk.turn()
    assert b"".join(c.data for c in desk.spool.read(STREAM, 0, 2**20)) == data


def test_a_killed_links_successor_takes_what_is_in_the_ring_and_nothing_twice(tmp_path: Path) -> None:
    first = Desk(tmp_path)
    publish(first.ring, range(10))
    first.turn(0.0)
    first.spool.commit()  # and it dies here: ten rows are durable, the ring does not know
    first.spool.close()
    publish(first.ring, range(10, 15))
    second = Desk(tmp_path, first.ring)
    second.turn()
    second.turn()
    assert second.ring.tail == 15
    rows = [step for c in second.spool.read(STREAM, 0, 2**20) for step in SCHEMA.view(c.data)["step"].tolist()]
    assert rows == list(range(15))
    second.spool.close()


def test_each_generation_is_a_stream_of_its_own(desk: Desk) -> None:
    publish(desk.ring, range(3))
    publish(desk.ring, range(2), run=b"next", generation=1)
    desk.turn()
    desk.turn()
    other = stream_name("arm", boot_of(BOOT, 1), "next")
    assert {s: desk.spool.synced(s) for s in desk.spool.streams()} == {STREAM: 2, other: 1}


def test_later_generations_have_boots_of_their_own_that_any_successor_finds_again() -> None:
    assert boot_of(BOOT, 0) == BOOT.hex()
    assert boot_of(BOOT, 1) == boot_of(BOOT, 1)
    assert len({boot_of(BOOT, n) for n in range(10)}) == 10
    assert len(boot_of(BOOT, 1)) == 32


@pytest.mark.slow
def test_a_full_spool_stops_the_draining_until_the_cloud_has_acknowledged_and_loses_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    desk = Desk(tmp_path, bound=LogConfig(segment_bytes=2**16, max_bytes=2**18))
    step, freed = 0, False
    while step < 10_000:
        count = desk.ring.free()
        publish(desk.ring, range(step, step + count))
        step += count
        desk.turn(1.1)
        if desk.spooler.blocked and desk.ring.free() == 0:
            assert "allowed max_bytes" in desk.spooler.blocked
            freed = True
            desk.clock.advance(1.1)
            desk.spooler.turn({STREAM: desk.spool.synced(STREAM)})
    assert freed
    while not desk.spooler.idle:
        desk.clock.advance(1.1)
        desk.spooler.turn({STREAM: desk.spool.synced(STREAM)})
    assert desk.spool.synced(STREAM) == step - 1
    assert desk.spool.first_kept(STREAM) > 0
    holds = caplog.text.count("Rows wait in memory and then the robot holds still, until there is space")
    assert holds == caplog.text.count("the spool has space again; the robot goes on") > 0
    desk.spool.close()


def test_control_knows_the_configuration_without_the_log() -> None:
    program = "import edge.control, sys; sys.exit('lmdb' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2], timeout=60)
