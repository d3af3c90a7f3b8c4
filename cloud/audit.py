"""The audit log: who did what to whom, one durable line each, in HOME/audit.jsonl. `user-rl audit` shows and checks it.

Each line holds the hash of the line before it, and `audit.head` the newest one's, so that a line that was changed or
removed shows, the last one included. Who can write the folder can forge all of it: copy the head elsewhere to be surer.
A full file becomes audit.N.jsonl; when there are too many the oldest goes, and a line says which. Any process of this
home may write: a lock orders them. Writing never stops what is written about: a line that no disk takes is an ERROR in
the process's log, and the next line counts it.
"""

import getpass
import hashlib
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from user_rl.errors import StorageError
from user_rl.files import FileLock, write_atomically

log = logging.getLogger(__name__)

LOCK_WAIT_S = 5.0
FILE_BYTES = 4 * 2**20
FILES = 16  # old ones that are kept
TEXT = 500  # characters of one field
FIRST = "0" * 64  # what the first line ever follows
AGAIN_S = 60.0  # between two lines about the same refusal
REFUSED_KEPT = 1000  # different refusals that are told apart
NUMBERED = re.compile(r"audit\.(\d+)\.jsonl")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One event."""

    time_s: float  # wall clock
    who: str  # as certified, or local:USER of this machine
    what: str
    about: str  # the name, cell or run that it was done to
    outcome: str
    n: int  # counts from 1, without holes
    before: str  # sha256 of the line before, hex


class _Head(msgspec.Struct, frozen=True):
    n: int
    line: str  # its sha256, hex


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """How much is kept."""

    file_bytes: int = FILE_BYTES
    files: int = FILES


class Audit:
    """The log of one home folder. Thread-safe; `write` never raises."""

    def __init__(self, home: Path, config: AuditConfig | None = None, *, wall: Callable[[], float] = time.time) -> None:
        self.path, self._config, self._wall = home / "audit.jsonl", config or AuditConfig(), wall
        self._mutex = threading.Lock()
        self._missed = 0
        self._told: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def write(self, who: str, what: str, about: str, outcome: str = "done") -> None:
        """Adds a line, durably."""
        with self._mutex:
            try:
                self._write(who, what, about, outcome)
            except (OSError, StorageError) as error:
                self._missed += 1
                log.error("the audit log misses %s %s %s (%s): %s; free space", who, what, about, outcome, error)

    def refused(self, who: str, what: str, why: str) -> None:
        """Somebody was turned away: a line a minute for the same, with how often."""
        now_s, key = self._wall(), (who, what)
        with self._mutex:
            last_s, count = self._told.pop(key, (float("-inf"), 0))
            due = not last_s <= now_s < last_s + AGAIN_S
            self._told[key] = (now_s, 0) if due else (last_s, count + 1)
            while len(self._told) > REFUSED_KEPT:
                self._told.popitem(last=False)
        if due:
            self.write(who, what, "", f"refused: {why}" + (f"; {count} more since the last line" if count else ""))

    def _write(self, who: str, what: str, about: str, outcome: str) -> None:
        lock = FileLock(self.path.with_name("audit.lock"), wait_s=LOCK_WAIT_S)
        try:
            n, before = self._last()
            if self.path.exists() and self.path.stat().st_size >= self._config.file_bytes:
                n, before = self._rotate(n, before)
            if self._missed:
                n, before = self._append(n, before, "audit", "missed", "", f"{self._missed} lines that no disk took")
                self._missed = 0
            self._append(n, before, who, what, about, outcome)
        finally:
            lock.release()

    def _append(self, n: int, before: str, who: str, what: str, about: str, outcome: str) -> tuple[int, str]:
        who, what, about, outcome = (text[:TEXT] for text in (who, what, about, outcome))
        line = Line(time_s=self._wall(), who=who, what=what, about=about, outcome=outcome, n=n + 1, before=before)
        data = msgspec.json.encode(line)
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            torn = _torn(self.path)
            os.write(fd, (b"\n" if torn else b"") + data + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)
        head = _Head(n + 1, _hash(data))
        write_atomically(self.path.with_name("audit.head"), msgspec.json.encode(head), mode=0o600)
        return head.n, head.line

    def _rotate(self, n: int, before: str) -> tuple[int, str]:
        numbers = sorted(numbered(self.path.parent))
        self.path.rename(self.path.with_name(f"audit.{(numbers or [0])[-1] + 1}.jsonl"))
        for number in numbers[: max(0, len(numbers) + 1 - self._config.files)]:
            old = self.path.with_name(f"audit.{number}.jsonl")
            _, last = last_line(old)
            n, before = self._append(n, before, "audit", "rotated", old.name, f"removed, its last line was {last}")
            old.unlink()
        return n, before

    def _last(self) -> tuple[int, str]:
        """The number and hash of the newest line; lines that somebody removed from the end leave a hole."""
        ends = [last_line(path) for path in files_of(self.path.parent)]
        head = _read_head(self.path.parent)
        return max([(0, FIRST), *ends, *([(head.n, head.line)] if head else [])], key=lambda end: end[0])


def local_name() -> str:
    """Who acts on this machine itself."""
    try:
        return f"local:{getpass.getuser()}"
    except (OSError, KeyError):  # a user without a name
        return f"local:{os.getuid()}"


def numbered(home: Path) -> list[int]:
    """The numbers of the old files."""
    return [int(found[1]) for path in home.glob("audit.*.jsonl") if (found := NUMBERED.fullmatch(path.name))]


def files_of(home: Path) -> list[Path]:
    """The log's files, the oldest first."""
    old = [home / f"audit.{number}.jsonl" for number in sorted(numbered(home))]
    return [*old, home / "audit.jsonl"] if (home / "audit.jsonl").exists() else old


def lines_of(path: Path) -> Iterator[tuple[Line | None, str]]:
    """Each line and its hash; None for one that cannot be read: cut short by a power cut, or changed."""
    with path.open("rb") as file:
        for data in file:
            try:
                yield msgspec.json.decode(data, type=Line), _hash(data.rstrip(b"\n"))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                yield None, _hash(data.rstrip(b"\n"))


def last_line(path: Path) -> tuple[int, str]:
    """The number and hash of the last whole line; (0, FIRST) when there is none."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 64 * 2**10))  # many lines
        for data in reversed(file.read().splitlines()):
            try:
                return msgspec.json.decode(data, type=Line).n, _hash(data)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
    return 0, FIRST


def verify(home: Path) -> list[str]:
    """What is wrong with the log, in words; nothing when every line follows the one before it."""
    found: list[str] = []
    n, before = 0, FIRST
    removed: dict[str, int] = {}  # hashes of last lines of files that are gone, by rotation
    first: tuple[int, str] | None = None  # what the oldest line that is left says it follows
    for path in files_of(home):
        for line, own in lines_of(path):
            if line is None:
                found.append(f"{path.name}: a line after {n} cannot be read: cut short by a crash, or changed")
                continue
            if first is None:
                first, n, before = (line.n - 1, line.before), line.n - 1, line.before
            if (line.n, line.before) != (n + 1, before):
                found.append(f"{path.name}: line {line.n} does not follow line {n}: one was changed or removed")
            if line.what == "rotated":
                removed[line.outcome.rpartition(" ")[2]] = line.n
            n, before = line.n, own
    if first is not None and first != (0, FIRST) and first[1] not in removed:
        found.append(f"the lines up to {first[0]} are gone, and no line says that they were rotated out")
    return found + _beside_head(home, n, before)


def _read_head(home: Path) -> _Head | None:
    try:
        return msgspec.json.decode((home / "audit.head").read_bytes(), type=_Head)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _beside_head(home: Path, n: int, before: str) -> list[str]:
    head = _read_head(home)
    if head is None:
        return [] if n == 0 else ["audit.head is missing: the last lines may be, too"]
    if head.n > n:
        return [f"the last line is {n}, and audit.head has seen line {head.n}: the last ones were removed"]
    if head.n == n and head.line != before:
        return [f"line {n} is not the one that audit.head has seen: it was changed"]
    return []  # one behind: a crash came between them


def _torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
