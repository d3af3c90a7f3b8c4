"""Pins: who needs which segments. `pins/<holder>.json`, one file for each holder, written by any process.

A checkpoint, or a snapshot of any other kind, pins its segments; retention drops none of them. The race between the two
is closed by a flock on the log's folder: a holder has it from the look at which segments exist until its file is
durable, the writer from its look at the pins until the segment has left. So either the pin is seen, or `pin` raises
SegmentGone and its caller chooses anew. A holder that dies keeps its pins: its successor needs them.
"""

import fcntl
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from user_rl.clock import Clock, SystemClock
from user_rl.errors import StorageBusy, StorageCorrupt, StorageError
from user_rl.files import sync_folder, write_atomically
from user_rl.log.durable import translated
from user_rl.log.segment import SegmentGone

FOLDER = "pins"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WAIT_S = 10.0  # for the other side, which deletes or pins
POLL_S = 0.01
TRIES = 3  # of a file whose temporary name an opening writer swept away


class Pin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`pins/<holder>.json`. `seqs` are the commits whose sets of rows must stay what they are."""

    segments: list[str]
    seqs: list[int] = []


@contextmanager
def holding(path: Path, *, wait_s: float = 0.0, clock: Clock | None = None) -> Iterator[None]:
    """The right to pin, or to drop, in the log at `path`. Raises StorageBusy after `wait_s`."""
    clock = clock or SystemClock()
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline_s = clock.now_s() + wait_s
        while not _locked(fd):
            if clock.now_s() >= deadline_s:
                raise StorageBusy(f"{path}: somebody pins or drops segments for over {wait_s:g} s; try again")
            clock.sleep_until(clock.now_s() + POLL_S)
        yield
    finally:
        os.close(fd)


def pin(path: Path, holder: str, segments: Collection[str], *, seqs: Collection[int] = ()) -> None:
    """From now on `holder` needs these segments, and none that it pinned before; durable when this returns.

    Raises SegmentGone where one of them is gone already: choose anew. Nothing has changed then.
    """
    file = _file(path, holder)
    with holding(path, wait_s=WAIT_S):
        gone = sorted(name for name in segments if not (path / name).is_dir())
        if gone:
            raise SegmentGone(f"{path}: segment {gone[0]} is gone ({len(gone)} in all); choose from those that it has")
        data = msgspec.json.encode(Pin(segments=sorted(segments), seqs=sorted(seqs)))
        with translated(path, 4096):
            _write(file, data)


def unpin(path: Path, holder: str) -> None:
    """Forgets what `holder` needed, durably; nothing pinned is fine."""
    file = _file(path, holder)
    with holding(path, wait_s=WAIT_S), suppress(FileNotFoundError):
        file.unlink()
        sync_folder(file.parent)


def pins(path: Path) -> dict[str, Pin]:
    """Every holder and what it needs; raises StorageCorrupt for a file that cannot be read."""
    found = {}
    for file in sorted((path / FOLDER).glob("[!.]*.json")):
        try:
            found[file.stem] = msgspec.json.decode(file.read_bytes(), type=Pin)
        except FileNotFoundError:
            continue
        except msgspec.MsgspecError as error:
            raise StorageCorrupt(f"{file} cannot be read: {error}; delete it where its holder is gone") from error
    return found


def pinned(path: Path) -> set[str]:
    """Every segment that somebody needs."""
    return {name for pin in pins(path).values() for name in pin.segments}


def _file(path: Path, holder: str) -> Path:
    if not NAME.fullmatch(holder):
        raise StorageError(f"holder {holder[:80]!r} of a pin, allowed 1 to 64 letters, digits, '.', '_' and '-'")
    return path / FOLDER / f"{holder}.json"


def _write(file: Path, data: bytes) -> None:
    new = not file.parent.exists()
    for left in reversed(range(TRIES)):
        try:
            write_atomically(file, data)
            break
        except FileNotFoundError:
            if not left:
                raise
    if new:
        sync_folder(file.parent.parent)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
