"""Source: what the store asks of a log that another process writes. `user_rl.log.Reader` is one."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from user_rl.log.chunk import ChunkRef
from user_rl.rows import Schema
from user_rl.specs import Array


class Hold(Protocol):
    """Chunks' bytes, mapped, as long as it is open. One thread."""

    def plain(self, ref: ChunkRef) -> Array:
        """The records [count] as they lie in the map, without the fields that are coded: read-only, no copy."""

    def fetch(self, ref: ChunkRef, rows: Array, out: Array) -> None:
        """Writes the records number `rows` [n] of the chunk, decoded, into `out` [n]."""


class Source(Protocol):
    """A log in commit order."""

    def streams(self) -> Mapping[str, Schema]: ...

    def refs(self, after_seq: int, max_chunks: int) -> Sequence[ChunkRef]:
        """Committed chunks after `after_seq` in commit order, at most `max_chunks`."""

    def hold(self) -> AbstractContextManager[Hold]:
        """A look at the bytes for one thread: entered for each batch, again and again."""

    def close(self) -> None: ...
