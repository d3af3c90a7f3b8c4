"""A run's logs for whoever reads rows and episodes, not commits: streams as the table puts them together.

`open_log` is the way to a run's experience, however many shards it has.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from cloud.run import RunFolder
from cloud.shards.merged import Merged
from cloud.shards.order import Order
from cloud.shards.table import Range, Table, read_table, table_reader
from cloud.store.source import Source
from user_rl.errors import StorageError
from user_rl.log import Chunk, Episode, Gap, Reader, Stored
from user_rl.log.chunk import Span, cut, part_as_stored
from user_rl.log.episodes import Part, merged
from user_rl.rows import Schema


class ShardedReader:
    """See user_rl.log.readable.Readable; the table is the one of its opening."""

    def __init__(self, path: Path, folders: Mapping[int, Path], table: Table) -> None:
        """`path`: the run's."""
        self.path, self._table = path, table
        self._readers: dict[int, Reader] = {}
        with ExitStack() as undo:
            undo.callback(self.close)
            for number, folder in folders.items():
                self._readers[number] = Reader(folder)
            undo.pop_all()

    def streams(self) -> dict[str, Schema]:
        return {name: schema for reader in self._readers.values() for name, schema in reader.streams().items()}

    def synced(self, stream: str) -> int:
        ends = [(seen, reader.synced(stream)) for seen, reader in self._parts(stream)]
        return max((_within(seen, end) for seen, end in ends if end >= seen.first), default=-1)

    def read(self, stream: str, first: int, max_bytes: int) -> list[Chunk]:
        """As `Reader.read`, and no further than one shard has it."""
        for seen, reader in self._parts(stream):
            if seen.last is None or seen.last >= first:
                found = [c for c in reader.read(stream, max(first, seen.first), max_bytes) if seen.has(c.first)]
                if found:
                    return [_seen_of(chunk, seen) for chunk in found]
        return []

    def episodes(self) -> list[Episode]:
        found = [e for n, reader in self._readers.items() for e in reader.episodes() if self._shows(n, e)]
        return merged((e.stream, e.episode, e.klass, _part(e)) for e in found)

    def gaps(self) -> list[Gap]:
        return [
            Gap(gap.stream, max(gap.first, seen.first), _within(seen, gap.last))
            for number, reader in self._readers.items()
            for gap in reader.gaps()
            for seen in self._table.visible(gap.stream, number)
            if gap.last >= seen.first and _within(seen, gap.first) == gap.first
        ]

    def scan(self, stream: str, without: frozenset[str] = frozenset()) -> Iterator[Chunk]:
        for seen, reader in self._parts(stream):
            for chunk in reader.scan(stream, without):
                if chunk.last >= seen.first and _within(seen, chunk.first) == chunk.first:
                    yield _seen_of(chunk, seen)

    def scan_stored(self, stream: str) -> Iterator[Stored]:
        for seen, reader in self._parts(stream):
            schema = reader.streams()[stream]
            for chunk in reader.scan_stored(stream):
                if chunk.last >= seen.first and _within(seen, chunk.first) == chunk.first:
                    first, last = max(chunk.first, seen.first), _within(seen, chunk.last)
                    yield part_as_stored(chunk, schema, first, last)

    def lossy(self, stream: str) -> frozenset[str]:
        return frozenset().union(*(reader.lossy(stream) for _, reader in self._parts(stream)))

    def dropped(self, stream: str) -> list[Span]:
        return [
            span for seen, reader in self._parts(stream) for span in reader.dropped(stream)
            if span.last >= seen.first and seen.has(max(span.first, seen.first))
        ]  # fmt: skip

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()

    def __enter__(self) -> "ShardedReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _parts(self, stream: str) -> list[tuple[Range, Reader]]:
        """Where the stream's steps are seen, in their order."""
        there = [(r, self._readers[r.shard]) for r in self._table.ranges(stream) if r.shard in self._readers]
        return [(seen, reader) for seen, reader in there if stream in reader.streams()]

    def _shows(self, number: int, episode: Episode) -> bool:
        return any(r.has(episode.first_step) for r in self._table.visible(episode.stream, number))


def is_sharded(folder: RunFolder) -> bool:
    """Whether the run has, or had, several shards."""
    return folder.shards.is_file()


def open_log(folder: RunFolder) -> Reader | ShardedReader:
    """All that a run has recorded. Raises StorageError where that is nothing yet."""
    if not is_sharded(folder):
        return Reader(folder.log)
    if not folder.logs():
        raise StorageError(f"{folder.root}: no log is there; start its writer first")
    return ShardedReader(folder.root, folder.logs(), read_table(folder.shards))


def open_source(folder: RunFolder, *, order: Path | None = None) -> Source:
    """The same in the order of its commits, which is kept in `order`. Raises StorageError as `open_log` does."""
    if not is_sharded(folder):
        return Reader(folder.log)
    if not folder.logs():
        raise StorageError(f"{folder.root}: no log is there; start its writer first")
    return Merged(folder.logs, table_reader(folder.shards), Order(order))


def log_at(path: Path) -> Reader | ShardedReader:
    """The log in the folder `path`; all logs of a run where it is the first one of several."""
    folder = RunFolder(path.parent)
    return open_log(folder) if path == folder.log else Reader(path)


def source_of(log: Path) -> Source:
    """What the learner of the run whose first log is `log` reads."""
    folder = RunFolder(log.parent)
    return open_source(folder, order=folder.order)


def _within(seen: Range, step: int) -> int:
    return step if seen.last is None else min(step, seen.last)


def _seen_of(chunk: Chunk, seen: Range) -> Chunk:
    first = max(chunk.first, seen.first)
    return cut(chunk, first, _within(seen, chunk.last) - first + 1)


def _part(episode: Episode) -> Part:
    return Part(
        first_step=episode.first_step, rows=episode.length + 1, reward_sum=episode.reward_sum,
        success=episode.success, interventions=episode.interventions, version=episode.version, closed=episode.closed,
    )  # fmt: skip


def check_one_log(folder: RunFolder, what: str) -> None:
    """Raises StorageError where a run has several shards, for `what`, which takes one log."""
    if is_sharded(folder):
        logs = ", ".join(path.name for path in folder.logs().values())
        raise StorageError(
            f"run {folder.name} has several logs ({logs}), allowed one for {what}; wait for a release that takes them"
        )
