"""Room: pictures go first, then the run pauses; nothing unacknowledged is lost, and both are undone by themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import room
from edge.config import LinkConfig
from edge.room import Room
from edge.room_config import RoomConfig
from edge.spooler import Spooler, stream_name
from tests.edge.rig import make_config
from tests.edge.test_ring import make_ring
from tests.edge.test_spooler import BOOT
from tests.user_rl.log.filmed_rows import SCHEMA, filmed
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError
from user_rl.log import Log, LogConfig
from user_rl.log.unfilmed import is_unfilmed
from user_rl.specs import Array

STREAM = stream_name("arm", BOOT.hex(), "run")
BOUND = LogConfig(segment_bytes=2**18, max_bytes=2**20)
OFF = "no camera frames are recorded: the spool holds "


class Desk:
    """A ring with pictures, a spool of a mebibyte, and the spooler between them."""

    def __init__(self, path: Path, *, codecs: dict[str, str] | None = None, room: RoomConfig | None = None) -> None:
        link = LinkConfig(commit_bytes=2**16, codecs=codecs or {}, room=room or RoomConfig())
        self.clock, self.ring, self.step = FakeClock(100.0), make_ring(256, SCHEMA), 0
        self.spool = Log(path / "spool", LogConfig(segment_bytes=2**18, max_bytes=2**20, codecs=link.codecs))
        self.spooler = Spooler(self.ring, self.spool, make_config(link=link), BOOT, self.clock)
        self.acknowledged: dict[str, int] = {}

    def record(self, count: int = 8) -> None:
        """So many rows, and a turn more than a second later."""
        rows = filmed(self.step, count)
        rows["run"], rows["klass"] = b"run", 0
        for row in rows:
            self.ring.rows[self.ring.slot()] = row
            self.ring.publish(0)
        self.step += count
        self.turn()

    def turn(self) -> None:
        self.clock.advance(1.1)
        self.spooler.turn(self.acknowledged)
        self.clock.advance(1.1)
        self.spooler.turn(self.acknowledged)

    def acknowledge(self) -> None:
        self.acknowledged = {STREAM: self.spool.synced(STREAM)}

    def rows(self) -> Array:
        return SCHEMA.view(b"".join(c.data for c in self.spool.read(STREAM, 0, 2**30)))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.spool.close()


@pytest.mark.slow
@pytest.mark.parametrize("codecs", [{}, {"observation.images.*": "zstd"}])
def test_at_the_high_mark_pictures_are_left_out_and_come_back_when_there_is_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codecs: dict[str, str]
) -> None:
    caplog.set_level("INFO")
    desk = Desk(tmp_path, codecs=codecs)
    while not desk.spooler.reason:
        desk.record()
    assert desk.spooler.reason.startswith(OFF)
    assert not desk.spooler.blocked
    before, at = desk.spool.size_bytes(), desk.step
    assert 0.8 * 2**20 < before < 2**20
    for _ in range(10):
        desk.record()
    assert desk.spool.size_bytes() - before < 10 * 8 * 2000  # a page or two for each commit, and no picture
    desk.acknowledge()
    desk.record()
    desk.record()
    assert desk.spooler.reason == ""
    kept = desk.rows()
    missing = is_unfilmed(kept, SCHEMA)
    first = int(kept["step"][0])
    assert not missing[: at - 8 - first].any()
    assert missing[at - first : at + 80 - first].all()
    assert not missing[-8:].any()
    assert desk.spool.synced(STREAM) == desk.step - 1
    wanted = filmed(at, 80)
    for name in ("observation.state", "action", "next.reward", "step"):
        assert (kept[name][at - first : at + 80 - first] == wanted[name]).all()
    assert caplog.text.count(OFF) == caplog.text.count("camera frames are recorded again") == 1
    desk.spool.close()


def test_acknowledged_rows_go_before_pictures_do(desk: Desk) -> None:
    for _ in range(60):
        desk.record()
        desk.acknowledge()
        assert desk.spooler.reason == ""
    assert desk.spool.first_kept(STREAM) > 0
    assert not is_unfilmed(desk.rows(), SCHEMA).any()


def test_a_disk_with_little_space_stops_pictures_and_then_everything(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    free = {"bytes": 600 * 2**20}
    monkeypatch.setattr(room, "free_bytes", lambda _path: free["bytes"])
    desk.record()
    free["bytes"] = 500 * 2**20
    desk.record()
    assert desk.spooler.reason.startswith("no camera frames are recorded: the spool's disk has 524288000 bytes free")
    free["bytes"] = 60 * 2**20
    desk.record()
    assert "allowed link.room.least_free_bytes = 67108864 and more" in desk.spooler.blocked
    assert desk.ring.tail == 16
    free["bytes"] = 600 * 2**20  # not yet 1.25 times
    desk.turn()
    assert desk.spooler.blocked == ""
    assert desk.spooler.reason != ""
    free["bytes"] = 700 * 2**20
    desk.record()
    desk.record()
    assert desk.spooler.reason == ""
    assert is_unfilmed(desk.rows(), SCHEMA).tolist()[:24] == [False] * 8 + [True] * 16
    assert desk.spool.synced(STREAM) == desk.step - 1
    assert caplog.text.count("states and actions go on") == caplog.text.count("camera frames are recorded again") == 1


def test_rows_without_cameras_have_no_pictures_to_leave_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda _path: 2**27)
    with Log(tmp_path, BOUND) as spool:
        without = Room(spool, RoomConfig(), pictures=False)
        without.look({})
        assert without.frames
        seeing = Room(spool, RoomConfig(), pictures=True)
        seeing.look({})
        assert not seeing.frames


def test_a_disk_that_does_not_say_what_it_has_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_bytes", lambda _path: None)
    with Log(tmp_path, BOUND) as spool:
        found = Room(spool, RoomConfig(), pictures=True)
        found.look({})
        assert found.frames


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"frames_on": 0.9}, "frames_on = 0.9, frames_off = 0.8; allowed are shares"),
        ({"frames_off": 1.1}, "frames_on = 0.7, frames_off = 1.1; allowed are shares"),
        ({"frames_on": 0.0}, "frames_on = 0.0"),
        ({"least_free_bytes": 2**40}, "allowed are 0 <= least_free_bytes <= frames_free_bytes"),
        ({"least_free_bytes": -1}, "allowed are 0 <= least_free_bytes <= frames_free_bytes"),
    ],
)
def test_marks_that_make_no_sense_are_refused(changes: dict[str, float], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        RoomConfig(**changes)  # type: ignore[arg-type]
    assert problem in str(error.value)
