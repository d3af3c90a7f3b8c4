"""A column's LMDB environment: what it is, its streams, and its entries in the order in which they were written.

Sub-databases: meta (column, seq), streams name → number, order (seq, position) → entry. It appears by rename, whole.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, TypeAlias

import lmdb
import msgspec

from user_rl.columns.entry import KEY, ids_of
from user_rl.columns.spec import Column
from user_rl.errors import StorageCorrupt, StorageFull
from user_rl.files import sync_folder
from user_rl.log.durable import translated

if TYPE_CHECKING:
    Txn: TypeAlias = lmdb.Transaction[memoryview]

TABLES = ("meta", "streams", "order")
MAP_BYTES = 2**34  # of address space; the file grows with what is written
NUMBER = Struct("<I")
Entry = tuple[bytes, memoryview]  # key, value


class ColumnFile:
    """One column on disk, open until `close`. A process opens it once."""

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        with translated(path, 0), ExitStack() as undo:
            self._env = lmdb.open(str(path), map_size=0, max_dbs=len(TABLES), create=False, readonly=not writable)
            undo.callback(self._env.close)
            self._tables = {name: self._env.open_db(name.encode(), create=False) for name in TABLES}
            self._env.reader_check()
            with self._env.begin(buffers=True) as txn:
                self.column = _column(path, txn.get(b"column", db=self._tables["meta"]))
            undo.pop_all()

    @contextmanager
    def begin(self) -> "Iterator[Txn]":
        """A read transaction on the newest commit."""
        with translated(self.path, 0), self._env.begin(buffers=True) as txn:
            yield txn

    def seq(self, txn: "Txn") -> int:
        """The number of the newest commit; 0: none."""
        found = txn.get(b"seq", db=self._tables["meta"])
        return int(bytes(found)) if found is not None else 0

    def streams(self, txn: "Txn") -> dict[str, int]:
        """The streams that have values, and their numbers."""
        found = txn.cursor(db=self._tables["streams"])
        return {bytes(name).decode(): NUMBER.unpack(number)[0] for name, number in found}

    def entries(self, txn: "Txn", after: bytes) -> Iterator[Entry]:
        """What was written after the entry with that key, in order."""
        cursor = txn.cursor(db=self._tables["order"])
        at = cursor.set_range(after) if after else cursor.first()
        while at:
            key = bytes(cursor.key())
            if key != after:
                yield key, cursor.value()
            at = cursor.next()

    def entry(self, txn: "Txn", key: bytes) -> memoryview | None:
        """One entry; None when it was pruned."""
        return txn.get(key, db=self._tables["order"])

    def append(
        self, check: Callable[[], None], seq: int, streams: Mapping[str, int], entries: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Writes one commit, whole and synced; raises StorageFull or StorageError with nothing written."""
        entries = list(entries)
        need = sum(len(data) for _, data in entries)
        with translated(self.path, need), self._room(need), self._env.begin(write=True) as txn:
            check()
            for name, number in streams.items():
                txn.put(name.encode(), NUMBER.pack(number), db=self._tables["streams"])
            for key, data in entries:
                txn.put(key, data, db=self._tables["order"], append=True)
            txn.put(b"seq", b"%d" % seq, db=self._tables["meta"])

    def copy(self, fd: int) -> None:
        """Writes the environment as it is at the newest commit into a file; its owner goes on."""
        with translated(self.path, 0):
            self._env.copyfd(fd, compact=True)

    def prune(self, check: Callable[[], None], first_kept: Mapping[str, int]) -> int:
        """Drops the entries whose every id is below its stream's; returns how many."""
        with self.begin() as txn:
            lowest = {number: first_kept.get(name, 0) for name, number in self.streams(txn).items()}
            gone = [key for key, data in self.entries(txn, b"") if _is_below(data, lowest)]
        if gone:
            with translated(self.path, 0), self._env.begin(write=True) as writing:
                check()
                for key in gone:
                    writing.delete(key, db=self._tables["order"])
        return len(gone)

    def close(self) -> None:
        """Closes the environment; safe to call twice."""
        self._env.close()

    @contextmanager
    def _room(self, need: int) -> Iterator[None]:
        try:
            yield
        except lmdb.MapFullError as error:
            raise StorageFull(
                f"{self.path}: no room for {need} bytes, allowed {self._env.info()['map_size']}; "
                "go on in a new version of this column"
            ) from error


def create_column(path: Path, column: Column, *, map_bytes: int = MAP_BYTES) -> None:
    """Makes an empty column that becomes visible under its name at the end."""
    part = path.with_name(f".new-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    with ExitStack() as undo, translated(path.parent, 64 * 1024):
        undo.callback(shutil.rmtree, part, ignore_errors=True)
        env = lmdb.open(str(part), map_size=map_bytes, max_dbs=len(TABLES))
        try:
            with env.begin(write=True) as txn:
                tables = {name: env.open_db(name.encode(), txn=txn) for name in TABLES}
                txn.put(b"column", msgspec.json.encode(column), db=tables["meta"])
        finally:
            env.close()
        sync_folder(part)
        part.rename(path)
        sync_folder(path.parent)
        undo.pop_all()


def entry_key(seq: int, position: int) -> bytes:
    """The key of a commit's entry."""
    return KEY.pack(seq, position)


def _is_below(data: memoryview, lowest: Mapping[int, int]) -> bool:
    number, ids = ids_of(data)
    return bool(ids.max(initial=-1) < lowest[number])


def _column(path: Path, data: memoryview | None) -> Column:
    try:
        column = msgspec.json.decode(bytes(data or b""), type=Column)
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path}: does not say what column it is: {error}; restore it from a backup") from error
    if column.identity != path.name:
        raise StorageCorrupt(f"{path}: holds {column.identity}, allowed {path.name}; restore it from a backup")
    return column
