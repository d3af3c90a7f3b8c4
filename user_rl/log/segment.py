"""A segment: one LMDB environment with the rows of one class, written until it is large, then sealed and read-only.

Sub-databases: chunks (stream number, first step) → records and digest; order seq → (stream number, first step);
streams name → number, cursor at the time, schema; spans number → what is here of it; episodes; gaps; meta.
The map has a fixed size, kept in the file; no writemap, every commit is synced. A segment appears by rename, so whoever
sees its folder sees a complete environment. `footer.json` seals it: counts, size and hash of the data file.
"""

import os
import shutil
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import lmdb
import msgspec
import xxhash

from user_rl.errors import StorageCorrupt, StorageError
from user_rl.files import sync_file, sync_folder, write_atomically
from user_rl.log.chunk import NUMBER_KEY, SEQ_KEY, STEP_KEY, Span, StreamEntry, entry_from_value, span_from_value
from user_rl.log.durable import translated
from user_rl.log.episodes import Part, part_from_value
from user_rl.log.lock import FORMAT
from user_rl.log.places import Places
from user_rl.rows import Klass

if TYPE_CHECKING:
    Txn: TypeAlias = lmdb.Transaction[memoryview]

PAGE = 4096
TABLES = ("chunks", "order", "streams", "spans", "episodes", "gaps", "meta")
MAP_SLACK = 64 * 2**20
DAMAGE = (
    lmdb.InvalidError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.VersionMismatchError, lmdb.NotFoundError
)  # fmt: skip


class Footer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`footer.json` of a sealed segment. `spans` are by stream number; `sealed_s` is wall clock, 0: not known."""

    format: int
    klass: int
    first_seq: int
    last_seq: int
    rows: int
    bytes: int
    xxh3_128: str
    spans: dict[int, Span]
    sealed_s: float = 0.0
    steps: int = 0  # rows that are not the last of their episode
    interventions: int = 0  # rows


class SegmentGone(StorageError):
    """The writer trimmed this segment; list again."""


class SegmentDamaged(StorageCorrupt):
    """A sealed segment whose environment cannot be opened any more; leave it out."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(text)
        self.path = path


class Segment:
    """One segment folder. The environment is opened at first use and closed by `close`; it may be used again after."""

    def __init__(self, path: Path, *, writable: bool = False, sync: bool = True) -> None:
        """`sync`: whether every transaction is synced, or only those before a `sync`."""
        self.path, self.syncs = path, sync
        klass, _, first_seq = path.name.rpartition("-")
        self.klass, self.first_seq = Klass[klass.upper()], int(first_seq)
        self.footer = _read_footer(path)
        self._writable = writable and self.footer is None
        self._env: lmdb.Environment | None = None
        self.places = Places(path / "data.mdb")
        self._readers, self._closing = 0, False
        self._tables: dict[str, lmdb._Database] = {}

    @property
    def is_open(self) -> bool:
        return self._env is not None

    def look_for_footer(self) -> None:
        """Notices that the writer has sealed this segment since."""
        if self.footer is None:
            self.footer = _read_footer(self.path)

    @contextmanager
    def begin(self) -> "Iterator[Txn]":
        """A read transaction on the newest commit; `close` waits for its end."""
        self._readers += 1
        try:
            with translated(self.path, 0), self._environment().begin(buffers=True) as txn:
                yield txn
        finally:
            self._readers -= 1
            if self._closing:
                self.close()

    @contextmanager
    def write(self, check: Callable[[], None]) -> "Iterator[Txn]":
        """A write transaction, committed and synced at the end. `check` raises if another writer has come; it is asked
        under LMDB's own lock."""
        with self._environment().begin(write=True, buffers=True) as txn:
            check()
            yield txn

    def sync(self) -> None:
        """Makes every transaction so far durable."""
        with translated(self.path, 4096):
            self._environment().sync(True)

    def last_commit(self) -> int:
        """The number of the newest transaction."""
        return int(self._environment().info()["last_txnid"])

    def copy(self, txn: "Txn", fd: int) -> None:
        """Writes the environment as `txn` sees it into a file, without the pages that are free; the writer goes on."""
        self._environment().copyfd(fd, compact=True, txn=txn)

    def free_dead_readers(self) -> None:
        """Gives back what readers held that were killed in a transaction; else the file could only grow."""
        self._environment().reader_check()

    def table(self, name: str) -> lmdb._Database:
        self._environment()
        return self._tables[name]

    def last_seq(self) -> int:
        """The highest sequence number that this segment knows of."""
        if self.footer:
            return self.footer.last_seq
        with self.begin() as txn:
            cursor = txn.cursor(db=self.table("order"))
            last = SEQ_KEY.unpack(cursor.key())[0] if cursor.last() else 0
            return max(last, _number(txn, self.table("meta"), b"seq"))

    def spans(self) -> dict[int, Span]:
        """What is here, by stream number."""
        if self.footer:
            return self.footer.spans
        with self.begin() as txn:
            items = txn.cursor(db=self.table("spans"))
            return {n: span_from_value(n, value) for key, value in items for n in NUMBER_KEY.unpack(key)}

    def span(self, number: int) -> Span | None:
        """What is here of one stream."""
        if self.footer:
            return self.footer.spans.get(number)
        with self.begin() as txn:
            value = txn.get(NUMBER_KEY.pack(number), db=self.table("spans"))
            return None if value is None else span_from_value(number, value)

    def streams(self) -> dict[str, StreamEntry]:
        """The streams that this segment knows of."""
        with self.begin() as txn:
            return {
                bytes(name).decode(): entry_from_value(value) for name, value in txn.cursor(db=self.table("streams"))
            }

    def known(self) -> int:
        """Changes whenever the table of streams does."""
        with self.begin() as txn:
            return _number(txn, self.table("meta"), b"known")

    def is_empty(self) -> bool:
        """Whether no chunk was ever written here."""
        return self.last_seq() < self.first_seq

    def remember(self, check: Callable[[], None], seq: int, streams: dict[str, StreamEntry]) -> None:
        """Writes down the cursors and the last sequence number, because the segment that had them goes."""
        with translated(self.path, 16 * PAGE), self.write(check) as txn:
            for name, entry in streams.items():
                txn.put(name.encode(), entry.packed(), db=self.table("streams"))
            txn.put(b"seq", b"%d" % seq, db=self.table("meta"))
            bump_known(self, txn)

    def used_bytes(self) -> int:
        """Bytes of the data file's pages in use or freed for reuse."""
        if self.footer:
            return self.footer.bytes
        info = self._environment().info()
        return (int(info["last_pgno"]) + 1) * PAGE

    def episode_parts(self) -> Iterator[tuple[int, int, Part]]:
        """(stream number, episode, what is here of it)."""
        with self.begin() as txn:
            for key, value in txn.cursor(db=self.table("episodes")):
                yield *STEP_KEY.unpack(key), part_from_value(value)

    def seal(self, now_s: float) -> None:
        """Closes the environment for good and writes the footer, durably. `now_s`: the wall clock."""
        spans, last_seq = self.spans(), self.last_seq()
        parts = [part for _, _, part in self.episode_parts()]
        self.close()
        with translated(self.path, 4096):
            sync_file(self.path / "data.mdb")  # a commit that failed may have left writes behind, which are hashed too
            size, digest = hash_file(self.path / "data.mdb")
            rows = sum(span.rows for span in spans.values())
            footer = Footer(
                FORMAT, self.klass, self.first_seq, last_seq, rows, size, digest, spans, sealed_s=now_s,
                steps=sum(part.rows - part.closed for part in parts), interventions=sum(p.interventions for p in parts),
            )  # fmt: skip
            write_atomically(self.path / "footer.json", msgspec.json.encode(footer))
        self.footer = footer
        self._writable = False

    def close(self) -> None:
        """Closes the environment, if it is open, once nobody reads in it."""
        self._closing = self._readers > 0
        if self._env is not None and not self._closing:
            self.places.close()
            self._env.close()
            self._env = None

    def _environment(self) -> lmdb.Environment:
        if self._env is None:
            try:
                with translated(self.path, 4096):
                    self._env = _open(
                        self.path, writable=self._writable, sealed=self.footer is not None, sync=self.syncs
                    )
                    _keep_lock_file(self.path, self._env)
                with translated(self.path, 4096):
                    self._tables = _tables(self._env, writable=self._writable)
            except StorageError as error:
                self.close()
                if not self.path.exists():
                    raise SegmentGone(f"{self.path}: was trimmed while it was read; ask again") from error
                if self.footer and isinstance(error.__cause__, DAMAGE):
                    raise SegmentDamaged(self.path, f"{self.path}: cannot be opened: {error.__cause__}") from error
                raise
        return self._env


def _keep_lock_file(path: Path, env: lmdb.Environment) -> None:
    """Keeps a dropped segment's lock file from giving its inode to a new file: py-lmdb knows what this process has open
    by the inodes of data and lock, for as long as the environment's object lives, and a sealed one is opened without
    its lock. O_PATH: closing any other descriptor of the file would free the process's locks on it."""
    try:
        weakref.finalize(env, os.close, os.open(path / "lock.mdb", os.O_PATH | os.O_CLOEXEC))
    except FileNotFoundError:
        if not path.exists():  # dropped since; a restored segment has no lock file
            raise


def create_segment(path: Path, map_bytes: int, seq: int, streams: dict[str, StreamEntry]) -> Segment:
    """Makes a complete, empty segment that knows `streams`; it becomes visible under its name at the end."""
    part = path.with_name(f".new-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    with ExitStack() as undo, translated(path.parent, 64 * 1024):
        undo.callback(shutil.rmtree, part, ignore_errors=True)
        with _created(part, map_bytes) as env:
            _fill(env, seq, streams)
        sync_folder(part)
        part.rename(path)
        sync_folder(path.parent)
        undo.pop_all()
    return Segment(path, writable=True)


@contextmanager
def _created(path: Path, map_bytes: int) -> Iterator[lmdb.Environment]:
    env = lmdb.open(str(path), map_size=map_bytes, max_dbs=len(TABLES))
    try:
        yield env
    finally:
        env.close()


def _fill(env: lmdb.Environment, seq: int, streams: dict[str, StreamEntry]) -> None:
    with env.begin(write=True) as txn:
        tables = {name: env.open_db(name.encode(), txn=txn) for name in TABLES}
        for key, number in ((b"format", FORMAT), (b"seq", seq), (b"known", 0)):
            txn.put(key, b"%d" % number, db=tables["meta"])
        for name, entry in streams.items():
            txn.put(name.encode(), entry.packed(), db=tables["streams"])


def _open(path: Path, *, writable: bool, sealed: bool, sync: bool) -> lmdb.Environment:
    """map_size 0 takes the size that the file was made with, so writer and readers agree."""
    return lmdb.open(
        str(path),
        map_size=0,
        max_dbs=len(TABLES),
        create=False,
        readonly=not writable,
        lock=not sealed,
        sync=sync,
    )


def _tables(env: lmdb.Environment, *, writable: bool) -> dict[str, lmdb._Database]:
    """The handles. A writer waits here for the transaction of a former one, whose next finds the new epoch and fails;
    `open_db` alone would wait with Python's lock held, `begin` lets go of it."""
    if not writable:
        return {name: env.open_db(name.encode(), create=False) for name in TABLES}
    with env.begin(write=True) as txn:
        return {name: env.open_db(name.encode(), txn=txn, create=False) for name in TABLES}


def bump_known(segment: Segment, txn: "Txn") -> None:
    """Tells readers that the table of streams has changed."""
    meta = segment.table("meta")
    txn.put(b"known", b"%d" % (_number(txn, meta, b"known") + 1), db=meta)


def _number(txn: "Txn", meta: lmdb._Database, key: bytes) -> int:
    value = txn.get(key, db=meta)
    if value is None:
        raise StorageCorrupt(f"{txn.env.path()}: {key.decode()} is missing in meta; restore this segment")
    return int(bytes(value))


def _read_footer(path: Path) -> Footer | None:
    try:
        return msgspec.json.decode((path / "footer.json").read_bytes(), type=Footer)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path}/footer.json cannot be read: {error}; restore this segment") from error


def hash_file(path: Path) -> tuple[int, str]:
    """Size and xxh3_128 of a file, by plain reads."""
    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def segments_in(
    path: Path, *, writable: bool = False, sync: bool = True, without: Collection[str] = ()
) -> list[Segment]:
    """The segments of a log, oldest first."""
    names = [entry for entry in path.iterdir() if is_segment_name(entry.name) and entry.name not in without]
    return sorted((Segment(entry, writable=writable, sync=sync) for entry in names), key=lambda s: s.first_seq)


def is_segment_name(name: str) -> bool:
    """Whether a folder entry is a segment (and not a half-made or half-deleted one)."""
    klass, _, number = name.rpartition("-")
    return number.isdigit() and klass.upper() in Klass.__members__
