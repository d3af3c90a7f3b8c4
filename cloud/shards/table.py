"""The table of a run with several shards: which shard has which steps of which stream, in `RUN/shards.json`.

A cell has a home, the shard that takes its streams; where it had another one before, what that one has is written
down, stream by stream. Nothing else is: a stream of which the table says nothing lies whole at its cell's home, and a
cell of which it says nothing is at home at shard 0. The driver, which holds the run's lock, is the only writer, and
replaces the file whole; gateways and readers look at it again when it has changed.

A move is three steps, each of them durable or repeatable: `leave` (from then on the old shard refuses the cell's rows),
asking the old shard how far it has come, `arrive` (what it has is closed there, and the new shard opens behind it). A
driver that dies in between finds the cell leaving, asks again, and may choose another shard.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt, StorageError
from user_rl.files import write_atomically
from user_rl.rows import cell_of

FORMAT = 1


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps `first` to `last` of a stream; None: whatever follows. `seq`: the shard's newest commit when it closed."""

    shard: int
    epoch: int
    first: int
    last: int | None = None
    seq: int = 0

    def has(self, step: int) -> bool:
        """Whether a step lies in it."""
        return self.first <= step and (self.last is None or step <= self.last)


class Home(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a cell's streams go. `leaving`: nothing more is taken there, until the cell has arrived elsewhere."""

    shard: int = 0
    epoch: int = 0
    leaving: bool = False


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`shards.json`. `closed`: by stream, in the order of its steps."""

    run: str  # streams of other runs, brought here from elsewhere, lie at shard 0
    format: int = FORMAT
    epoch: int = 0  # the newest
    homes: dict[str, Home] = {}
    closed: dict[str, tuple[Range, ...]] = {}

    def home(self, cell: str) -> Home:
        """Where a cell is at home."""
        return self.homes.get(cell, Home())

    def ranges(self, stream: str) -> tuple[Range, ...]:
        """Every range of a stream, in order; the last one is open."""
        closed, home = self.closed.get(stream, ()), self._home_of(stream)
        return *closed, Range(home.shard, home.epoch, _end(closed) + 1)

    def opens_at(self, stream: str, shard: int) -> int | None:
        """The step from which on `shard` takes rows of a stream; None: it takes none."""
        home = self._home_of(stream)
        return None if home.leaving or home.shard != shard else _end(self.closed.get(stream, ())) + 1

    def visible(self, stream: str, shard: int) -> tuple[Range, ...]:
        """What a reader sees of a stream in the log of `shard`."""
        return tuple(r for r in self.ranges(stream) if r.shard == shard)

    def before(self, stream: str, step: int) -> Range | None:
        """The range that ends just before the one that has `step`."""
        ends = [r for r in self.closed.get(stream, ()) if r.last is not None and r.last < step]
        return ends[-1] if ends else None

    def _home_of(self, stream: str) -> Home:
        return self.home(cell_of(stream)) if stream.endswith(f"/{self.run}") else Home()


def read_table(path: Path) -> Table:
    """The table in `path`; one that says nothing where there is no file."""
    try:
        table = msgspec.json.decode(path.read_bytes(), type=Table)
    except FileNotFoundError:
        return Table(path.parent.name)
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path} cannot be read: {error}; restore it from a backup of the run") from error
    if table.format != FORMAT:
        raise StorageCorrupt(f"{path}: format {table.format}, allowed {FORMAT}; use the release that wrote it")
    return table


def table_reader(path: Path) -> Callable[[], Table]:
    """The table as it is now: the file is read again whenever another one has taken its place."""
    seen: tuple[object, Table] = (None, Table(path.parent.name))

    def table() -> Table:
        nonlocal seen
        try:
            found = path.stat()
        except FileNotFoundError:
            return Table(path.parent.name)
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark != seen[0]:
            seen = (mark, read_table(path))
        return seen[1]

    return table


def shard_opens_at(path: Path, shard: int) -> Callable[[str], int | None]:
    """From which step on `shard` takes a stream, None: not at all; as the table in `path` says now."""
    table = table_reader(path)
    return lambda stream: table().opens_at(stream, shard)


class ShardTable:
    """The table's only writer. What a call has changed is on the disk when it returns."""

    def __init__(self, path: Path) -> None:
        """Makes it where there is none: from then on the run's logs are read in the order of `cloud.shards.order`."""
        self._path, self.now = path, read_table(path)
        if not path.exists():
            self._write(self.now)

    def leave(self, cell: str) -> None:
        """Fences a cell's home: it takes no row of the cell any more."""
        old = self.now.home(cell)
        if not old.leaving:
            self._home(cell, Home(old.shard, self.now.epoch + 1, leaving=True), self.now.closed)

    def arrive(self, cell: str, shard: int, cursors: Mapping[str, int], seq: int) -> None:
        """Gives a cell that is leaving its new home. `cursors`: the last durable step of each of its streams at the old
        one, whose log is at commit `seq`; they must have been asked for after `leave`."""
        old = self.now.home(cell)
        if not old.leaving:
            raise StorageError(f"{cell} is at home at shard {old.shard} and not leaving it; call leave first")
        closed = dict(self.now.closed)
        for stream, last in cursors.items():
            first = _end(closed.get(stream, ())) + 1
            if last >= first:
                closed[stream] = (*closed.get(stream, ()), Range(old.shard, old.epoch, first, last, seq))
        self._home(cell, Home(shard, self.now.epoch + 1), closed)

    def _home(self, cell: str, home: Home, closed: dict[str, tuple[Range, ...]]) -> None:
        self._write(Table(self.now.run, FORMAT, home.epoch, {**self.now.homes, cell: home}, closed))

    def _write(self, table: Table) -> None:
        write_atomically(self._path, msgspec.json.encode(table))
        self.now = table


def _end(closed: Iterable[Range]) -> int:
    return max((r.last for r in closed if r.last is not None), default=-1)
