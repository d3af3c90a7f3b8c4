"""What the fleet must not forget: boots in their order, tokens, who holds what, quarantines. SQLite, commits synced.

Tokens and boot sequences are AUTOINCREMENT keys, so a number is never given out twice, whatever is deleted. Nothing
here is a time: see cloud/fleet/leases.py. One process opens it (cloud/fleet/server.py holds the lock), one thread at a
time calls it.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from user_rl.errors import StorageCorrupt, StorageError, StorageFull
from user_rl.fleet import AcceleratorCard, Card, RunDoors

FORMAT = 3
SCHEMA = """
CREATE TABLE boots (sequence INTEGER PRIMARY KEY AUTOINCREMENT, cell TEXT, boot TEXT, UNIQUE (cell, boot));
CREATE TABLE grants (token INTEGER PRIMARY KEY AUTOINCREMENT, cell TEXT, run TEXT);
CREATE TABLE cells (cell TEXT PRIMARY KEY, record BLOB);
"""
ADDED_IN_2 = "CREATE TABLE accelerators (id TEXT PRIMARY KEY, record BLOB);"
ADDED_IN_3 = "DROP TABLE IF EXISTS runs; CREATE TABLE doors (run TEXT PRIMARY KEY, record BLOB);"  # runs say it again

Record = TypeVar("Record")
Cause = Literal["person", "check", "fault", "lost"]


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """Why a resource is granted to nobody. Only a person ends a person's; a passed check ends the others."""

    cause: Cause
    reason: str
    is_unconfirmed: bool = False  # a stop that the edge has not confirmed: it is told when it listens


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """One cell's durable half. Leased while `held`; then in doubt until `released` has reached `token`; then free."""

    card: Card
    sequence: int
    run: str = ""
    token: int = 0
    held: bool = False
    released: int = 0
    autonomy_s: float = 0.0  # what the edge was told with `token`
    quarantine: Quarantine | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the edge may still act under `token`."""
        return self.token > self.released

    @property
    def releasing(self) -> bool:
        """Whether the lease has ended while the edge may still act."""
        return self.in_doubt and not self.held


@dataclass(frozen=True, kw_only=True)
class AcceleratorRecord:
    """One accelerator's durable half: leased to `run` for `role`, or to nobody."""

    card: AcceleratorCard  # without what changes from one look to the next
    run: str = ""
    role: str = ""
    quarantine: Quarantine | None = None


class Store:
    """The database at `path`; raises StorageError and StorageFull."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with self._translated():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        with ExitStack() as undo:
            undo.callback(self._db.close)
            self._open()
            undo.pop_all()

    def cells(self) -> dict[str, CellRecord]:
        """Every cell, by name."""
        return self._records("SELECT cell, record FROM cells ORDER BY cell", CellRecord)

    def accelerators(self) -> dict[str, AcceleratorRecord]:
        """Every accelerator, by id."""
        return self._records("SELECT id, record FROM accelerators ORDER BY id", AcceleratorRecord)

    def doors(self) -> dict[str, RunDoors]:
        """Where each run listens or last listened."""
        return self._records("SELECT run, record FROM doors", RunDoors)

    def boot(self, cell: str, boot: str) -> int:
        """The sequence number of this boot, a new and higher one if it is not known yet."""
        with self._transaction() as db:
            row = db.execute("SELECT sequence FROM boots WHERE cell = ? AND boot = ?", (cell, boot)).fetchone()
            if row:
                return int(row[0])
            sequence = db.execute("INSERT INTO boots (cell, boot) VALUES (?, ?)", (cell, boot)).lastrowid
            assert sequence  # an insert has one
            return sequence

    def save(self, *records: CellRecord) -> None:
        """Replaces the cells' records, all or none. Tokens given out later are higher than any in them."""
        with self._transaction() as db:
            newest = int(db.execute("SELECT coalesce(max(token), 0) FROM grants").fetchone()[0])
            unknown = [(r.token, r.card.cell) for r in records if r.token > newest]  # this store was lost once
            db.executemany("INSERT INTO grants VALUES (?, ?, '')", unknown)
            self._write(db, records)

    def save_accelerators(self, *records: AcceleratorRecord) -> None:
        """Replaces the accelerators' records, all or none."""
        with self._transaction() as db:
            self._write_accelerators(db, records)

    def forget_accelerators(self, *ids: str) -> None:
        """They are not there any more."""
        with self._transaction() as db:
            db.executemany("DELETE FROM accelerators WHERE id = ?", [(id,) for id in ids])

    def grant(
        self, cells: Sequence[CellRecord], accelerators: Sequence[AcceleratorRecord], run: str, *, autonomy_s: float
    ) -> list[CellRecord]:
        """Leases the cells to `run`, each under a new token, and keeps the accelerators' records; all or none."""
        with self._transaction() as db:
            after = []
            for record in cells:
                token = db.execute("INSERT INTO grants (cell, run) VALUES (?, ?)", (record.card.cell, run)).lastrowid
                assert token  # an insert has one
                after.append(replace(record, run=run, token=token, held=True, autonomy_s=autonomy_s))
            self._write(db, after)
            self._write_accelerators(db, accelerators)
        return after

    def open_run(self, run: str, doors: RunDoors) -> None:
        """Keeps where the run listens."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO doors VALUES (?, ?)", (run, msgspec.json.encode(doors)))

    def close(self) -> None:
        """Ends it; safe to call twice."""
        self._db.close()

    def _open(self) -> None:
        with self._translated():
            self._db.execute("PRAGMA synchronous = FULL")
            found = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            if found in (0, 1, 2):
                made = (SCHEMA, ADDED_IN_2, ADDED_IN_3)[found:]
                self._db.executescript(f"BEGIN; {''.join(made)} PRAGMA user_version = {FORMAT}; COMMIT;")
            elif found != FORMAT:
                raise StorageError(f"{self._path} has format {found}, allowed {FORMAT}; run the version that wrote it")

    def _write(self, db: sqlite3.Connection, records: Iterable[CellRecord]) -> None:
        rows = [(record.card.cell, msgspec.json.encode(record)) for record in records]
        db.executemany("INSERT OR REPLACE INTO cells VALUES (?, ?)", rows)

    def _write_accelerators(self, db: sqlite3.Connection, records: Iterable[AcceleratorRecord]) -> None:
        rows = [(record.card.id, msgspec.json.encode(record)) for record in records]
        db.executemany("INSERT OR REPLACE INTO accelerators VALUES (?, ?)", rows)

    def _records(self, query: str, kind: type[Record]) -> dict[str, Record]:
        with self._translated():
            rows = self._db.execute(query).fetchall()
        try:
            return {name: msgspec.json.decode(record, type=kind) for name, record in rows}
        except msgspec.MsgspecError as error:
            raise StorageCorrupt(f"{self._path}: {error}; restore it from a backup") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), self._db:  # commits, or rolls back what was begun
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = StorageFull if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL else StorageError
            raise kind(f"{self._path}: {error}; nothing was changed, look at the disk") from error
