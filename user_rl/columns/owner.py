"""Columns: the only writer of a log's late columns. What `commit` returned is on the disk.

Each id is judged on its own: written, the same again, in conflict with what is there, not in the log, dropped from it,
or no valid value. Writing is grouped: `write` judges at once, `commit` makes all of it durable in one transaction for
each column. After a commit that failed nothing of it counts as written: write it again.
"""

import shutil
from collections import Counter
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from user_rl.columns.entry import pack, rows_in_entry
from user_rl.columns.file import MAP_BYTES, ColumnFile, create_column, entry_key
from user_rl.columns.holdings import Ranges
from user_rl.columns.spec import NAME, Column, check_column
from user_rl.columns.view import MEMORY_BYTES, View
from user_rl.errors import SpecError, StorageBusy, StorageCorrupt, StorageError
from user_rl.files import FileLock, write_atomically
from user_rl.specs import Array

FORMAT = 1
OWNER = "owner.json"


class Verdict(IntEnum):
    """What became of one value."""

    WRITTEN = 0
    SAME = 1  # it was there already
    CONFLICT = 2  # another value is there: write it in a new version
    UNKNOWN = 3  # the log never had this id
    EVICTED = 4  # the log has it no more
    INVALID = 5  # not finite, or a text that is too long


class _Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    epoch: int


class _Open:
    """A column that is open, and what waits for the commit."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        self.file = ColumnFile(path, writable=True)
        try:
            self.view = View(self.file, memory_bytes=memory_bytes)
        except BaseException:
            self.file.close()
            raise
        self.numbers = dict(self.view.streams)
        self.waiting: list[tuple[bytes, bytes]] = []
        self.waiting_bytes = self.waiting_values = 0


class Columns:
    """The writer of the columns in one folder, in one thread. Raises StorageBusy naming the process that has it."""

    def __init__(
        self, path: Path, rows: Ranges, *, memory_bytes: int = MEMORY_BYTES, map_bytes: int = MAP_BYTES,
        wait_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.path, self._rows, self._memory_bytes, self._map_bytes = path, rows, memory_bytes, map_bytes
        self.counts: Counter[Verdict] = Counter()
        self._open: dict[str, _Open] = {}
        self._lock = FileLock(path / "lock", wait_s=wait_s)
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._epoch = self._next_epoch()
            for half in path.glob(".new-*"):
                shutil.rmtree(half)
            undo.pop_all()

    def names(self) -> list[str]:
        """The identities of the columns that there are."""
        return names_in(self.path)

    def column(self, identity: str) -> Column:
        """What a column is; raises StorageError when there is none."""
        return self._opened(identity).file.column

    def add(self, column: Column) -> Column:
        """Makes the column unless it is there; raises SpecError when it is there with other values."""
        check_column(column)
        if column.identity not in self.names():
            create_column(self.path / column.identity, column, map_bytes=self._map_bytes)
        found = self.column(column.identity)
        if not found.same_values(column):
            raise SpecError(
                f"column {column.identity} has {_kind(found)}, offered was {_kind(column)}; write a new version"
            )
        return found

    def write(self, identity: str, stream: str, ids: Array, values: Any) -> Array:  # noqa: ANN401
        """[n] Verdict: what becomes of each value, once `commit` has returned."""
        opened = self._opened(identity)
        ids = np.asarray(ids).astype(np.int64)
        if ids.ndim != 1:
            raise SpecError(f"{identity}: ids of shape {list(ids.shape)}, allowed [n]; flatten them")
        given = opened.file.column.checked(values, len(ids))
        verdicts = self._judged(opened, stream, ids, given)
        kept = np.flatnonzero(verdicts == Verdict.WRITTEN)
        if len(kept):
            self._take(opened, stream, ids[kept], given[kept])
        for verdict in set(Verdict) - {Verdict.WRITTEN}:  # those count once they are on the disk
            self.counts[verdict] += int(np.count_nonzero(verdicts == verdict))
        return verdicts

    def values(self, identity: str, stream: str, ids: Array) -> tuple[Array, Array]:
        """(values [n, ...], present [n]), with what is not committed yet."""
        opened = self._opened(identity)
        return opened.view.values(opened.numbers.get(stream, -1), np.asarray(ids).astype(np.int64), None)

    @property
    def waiting_bytes(self) -> int:
        """What the next commit will write."""
        return sum(opened.waiting_bytes for opened in self._open.values())

    def commit(self) -> dict[str, int]:
        """Makes all that was written durable; the sequence numbers of the columns that it moved.

        Raises StorageFull or StorageError: then nothing of the columns that are not on disk yet counts as written.
        """
        moved: dict[str, int] = {}
        try:
            for identity, opened in self._open.items():
                if opened.waiting:
                    moved[identity] = self._commit(opened)
        except StorageError:
            for identity in [name for name, opened in self._open.items() if opened.waiting]:
                self._open.pop(identity).file.close()  # it is read anew from what the disk has
            raise
        return moved

    def prune(self) -> int:
        """Drops the values of rows and episodes that the log no longer has; returns how many entries went."""
        gone = 0
        for identity in self.names():
            file = self._opened(identity).file
            gone += file.prune(self._check, self._rows.lowest(file.column.per))
        return gone

    def close(self) -> None:
        """Gives the columns back; what was not committed is lost."""
        for opened in self._open.values():
            opened.file.close()
        self._open.clear()
        self._lock.release()

    def __enter__(self) -> "Columns":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened(self, identity: str) -> _Open:
        if identity not in self._open:
            if identity not in self.names():
                raise StorageError(f"{self.path}: no column {identity}, it has {self.names()[:5]}; add it first")
            self._open[identity] = _Open(self.path / identity, self._memory_bytes)
        return self._open[identity]

    def _judged(self, opened: _Open, stream: str, ids: Array, given: Array) -> Array:
        column = opened.file.column
        verdicts = np.full(len(ids), Verdict.WRITTEN, np.uint8)
        there, present = opened.view.values(opened.numbers.get(stream, -1), ids, None)
        same = _equal(there, given)
        verdicts[present] = np.where(same[present], Verdict.SAME, Verdict.CONFLICT)
        valid = column.is_valid(given)
        new = np.flatnonzero(valid & ~present)
        order = new[np.argsort(ids[new], kind="stable")]
        again = order[1:][ids[order[1:]] == ids[order[:-1]]]  # new, and twice in one call: the first counts
        if len(again):
            first = order[np.searchsorted(ids[order], ids[again])]
            verdicts[again] = np.where(_equal(given[first], given[again]), Verdict.SAME, Verdict.CONFLICT)
        verdicts[~valid] = Verdict.INVALID
        held, was = self._rows.held(stream, ids, column.per)
        verdicts[~held] = np.where(was[~held], Verdict.EVICTED, Verdict.UNKNOWN)
        return verdicts

    def _take(self, opened: _Open, stream: str, ids: Array, values: Array) -> None:
        number = opened.numbers.setdefault(stream, len(opened.numbers) + 1)
        column, size = opened.file.column, rows_in_entry(opened.file.column)
        order = np.argsort(ids)
        for start in range(0, len(ids), size):
            part = order[start : start + size]
            key = entry_key(opened.view.seq + 1, len(opened.waiting))
            opened.view.take(key, number, ids[part], values[part], committed=False)
            data = pack(column, number, ids[part], values[part])
            opened.waiting.append((key, data))
            opened.waiting_bytes += len(data)
            opened.waiting_values += len(part)

    def _commit(self, opened: _Open) -> int:
        seq = opened.view.seq + 1
        new = {name: n for name, n in opened.numbers.items() if name not in opened.view.streams}
        opened.file.append(self._check, seq, new, opened.waiting)
        opened.view.streams.update(new)
        opened.view.committed(seq)
        self.counts[Verdict.WRITTEN] += opened.waiting_values
        opened.waiting, opened.waiting_bytes, opened.waiting_values = [], 0, 0
        return seq

    def _check(self) -> None:
        epoch = _read_owner(self.path).epoch
        if epoch != self._epoch:
            raise StorageBusy(
                f"{self.path}: its writer has epoch {epoch} now, ours is {self._epoch}; "
                "close this one, it may not write"
            )

    def _next_epoch(self) -> int:
        epoch = _read_owner(self.path).epoch + 1 if (self.path / OWNER).exists() else 1
        write_atomically(self.path / OWNER, msgspec.json.encode(_Owner(FORMAT, epoch)))
        return epoch


def names_in(path: Path) -> list[str]:
    """The identities of the columns in a folder."""
    return sorted(entry.name for entry in path.iterdir() if NAME.fullmatch(entry.name)) if path.is_dir() else []


def _equal(one: Array, other: Array) -> Array:
    same: Array = (one == other).reshape(len(one), -1).all(axis=1) if len(one) else np.zeros(0, bool)
    return same


def _kind(column: Column) -> str:
    return f"{column.dtype} {list(column.shape)} {column.unit!r} per {column.per}"


def _read_owner(path: Path) -> _Owner:
    try:
        owner = msgspec.json.decode((path / OWNER).read_bytes(), type=_Owner)
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageCorrupt(f"{path / OWNER} cannot be read: {error}; restore it from a backup") from error
    if owner.format != FORMAT:
        raise StorageError(f"{path}: column format {owner.format}, allowed {FORMAT}; use the release that wrote it")
    return owner
