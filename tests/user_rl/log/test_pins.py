"""Pins: durable, one file for each holder, written by any process, and never late."""

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from user_rl.clock import FakeClock
from user_rl.errors import StorageBusy, StorageCorrupt, StorageError
from user_rl.log.pins import Pin, holding, pin, pinned, pins, unpin
from user_rl.log.segment import SegmentGone


@pytest.fixture
def path(tmp_path: Path) -> Path:
    for name in ("online-00000001", "online-00000005", "demonstration-00000002"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_holder_has_what_it_pinned_last(path: Path) -> None:
    assert (pins(path), pinned(path)) == ({}, set())
    pin(path, "checkpoint", ["online-00000005", "online-00000001"], seqs=[9, 4])
    pin(path, "other", ["demonstration-00000002"])
    assert pins(path)["checkpoint"] == Pin(segments=["online-00000001", "online-00000005"], seqs=[4, 9])
    pin(path, "checkpoint", ["online-00000005"])
    assert pinned(path) == {"online-00000005", "demonstration-00000002"}
    unpin(path, "other")
    unpin(path, "other")
    assert list(pins(path)) == ["checkpoint"]


def test_what_is_gone_cannot_be_pinned_and_the_pins_before_stay(path: Path) -> None:
    pin(path, "checkpoint", ["online-00000001"])
    with pytest.raises(SegmentGone, match=r"segment online-00000003 is gone \(1 in all\); choose from those"):
        pin(path, "checkpoint", ["online-00000003", "online-00000005"])
    assert pinned(path) == {"online-00000001"}


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a/b", "x" * 65])
def test_a_holder_is_a_plain_name(path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="of a pin, allowed 1 to 64 letters"):
        pin(path, name, [])


def test_a_pin_that_cannot_be_read_is_named(path: Path) -> None:
    pin(path, "checkpoint", [])
    (path / "pins" / "checkpoint.json").write_bytes(msgspec.json.encode({"segments": 3}))
    with pytest.raises(StorageCorrupt, match=r"checkpoint\.json cannot be read: .*; delete it where its holder is"):
        pins(path)


def test_a_half_written_pin_is_none(path: Path) -> None:
    pin(path, "checkpoint", [])
    (path / "pins" / ".checkpoint.json.77.part").write_text("{")
    assert list(pins(path)) == ["checkpoint"]


def test_one_at_a_time_pins_or_drops(path: Path) -> None:
    clock = FakeClock()
    busy = r"somebody pins or drops segments for over 2 s; try again"
    with holding(path), pytest.raises(StorageBusy, match=busy), holding(path, wait_s=2.0, clock=clock):
        pass
    assert clock.now_s() >= 2.0
    with holding(path):
        pass


def test_who_waits_to_pin_sees_what_was_dropped_meanwhile(path: Path) -> None:
    """The writer has the lock while it drops; who pins then must choose anew."""
    found: list[Exception] = []

    def choose() -> None:
        try:
            pin(path, "checkpoint", ["online-00000001"])
        except SegmentGone as error:
            found.append(error)

    thread = threading.Thread(target=choose)
    with holding(path):
        thread.start()
        (path / "online-00000001").rmdir()
    thread.join()
    assert len(found) == 1
    assert pinned(path) == set()


@pytest.mark.slow
def test_another_process_pins(path: Path) -> None:
    code = "import sys; from pathlib import Path; from user_rl.log.pins import pin; "
    code += "pin(Path(sys.argv[1]), 'learner', ['online-00000001'], seqs=[3])"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert pins(path) == {"learner": Pin(segments=["online-00000001"], seqs=[3])}
