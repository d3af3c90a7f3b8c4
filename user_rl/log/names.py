"""Names: the streams of a log, gathered from its segments."""

from collections.abc import Mapping

from user_rl.errors import StorageError
from user_rl.log.chunk import StreamEntry
from user_rl.rows import Schema, schema_from_bytes


class Names:
    """The streams: their numbers, schemas, row sizes, and the cursors that the segments' stream tables remember."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.bases: dict[str, int] = {}
        self.schemas: dict[str, Schema] = {}
        self.by_number: dict[int, tuple[str, int]] = {}
        self._read: dict[bytes, Schema] = {}  # streams are many, schemas are few

    def add(self, name: str, number: int, schema: Schema) -> None:
        self.numbers[name], self.schemas[name] = number, schema
        self.by_number[number] = (name, schema.row_bytes)

    def learn(self, entries: Mapping[str, StreamEntry]) -> None:
        """Takes in what a segment knows."""
        for name, entry in entries.items():
            if name not in self.numbers:
                if entry.schema not in self._read:
                    self._read[entry.schema] = schema_from_bytes(entry.schema)
                self.add(name, entry.number, self._read[entry.schema])
            self.bases[name] = max(self.bases.get(name, -1), entry.base)

    def number(self, stream: str) -> int:
        """A stream's number; raises StorageError if there is no such stream."""
        if stream not in self.numbers:
            raise StorageError(f"no stream {stream}, it has {sorted(self.numbers)[:3]}; look at streams() first")
        return self.numbers[stream]

    def entries(self) -> dict[str, StreamEntry]:
        """What a segment is to know, so that no other is needed for it: streams that have a cursor."""
        kept = {name: base for name, base in self.bases.items() if base >= 0}
        return {n: StreamEntry(self.numbers[n], base, self.schemas[n].encoded) for n, base in kept.items()}
