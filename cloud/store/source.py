"""Source: what the store asks of a log that another process writes. `user_rl.log.Reader` is one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from user_rl.log.chunk import ChunkRef
from user_rl.rows import Schema
from user_rl.specs import Array


class Hold(Protocol):
    """Chunks' bytes, mapped, while it is entered: for each batch, again and again. One thread."""

    def __enter__(self) -> "Hold": ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """Lets go of what it keeps between batches."""

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        """The records [count] as they lie in the map, without the fields that are coded: read-only, no copy.

        With `check` all of the chunk is read once and held against its digest.
        """

    def where(self, ref: ChunkRef) -> tuple[int, int] | None:
        """A file descriptor and the place of the chunk's first record in that file, if the records lie there as they
        are and stay there; else None."""

    def fetch(self, ref: ChunkRef, rows: Array, out: Array) -> None:
        """Writes the records number `rows` [n] of the chunk, decoded, into `out` [n]."""


class Source(Protocol):
    """A log in commit order."""

    def streams(self) -> Mapping[str, Schema]: ...

    def refs(self, after_seq: int, max_chunks: int) -> Sequence[ChunkRef]:
        """Committed chunks after `after_seq` in commit order, at most `max_chunks`."""

    def first_online(self) -> int:
        """The first commit of the oldest online rows that are left; 0: there are none, or none were ever dropped."""

    def hold(self) -> Hold:
        """A look at the bytes for one thread."""

    def close(self) -> None: ...
