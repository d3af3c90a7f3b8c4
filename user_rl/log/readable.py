"""Readable: what is asked of a log by whoever compares, films, counts or copies it. `Reader` is one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from user_rl.log.chunk import Chunk, Gap, Span, Stored
from user_rl.log.episodes import Episode
from user_rl.rows import Schema


class Readable(Protocol):
    """See user_rl.log.Reader."""

    @property
    def path(self) -> Path:
        """Where it lies, for a person."""

    def streams(self) -> dict[str, Schema]: ...

    def synced(self, stream: str) -> int: ...

    def read(self, stream: str, first: int, max_bytes: int) -> Sequence[Chunk]: ...

    def episodes(self) -> list[Episode]: ...

    def gaps(self) -> list[Gap]: ...

    def scan(self, stream: str, without: frozenset[str] = frozenset()) -> Iterator[Chunk]: ...

    def scan_stored(self, stream: str) -> Iterator[Stored]: ...

    def lossy(self, stream: str) -> frozenset[str]: ...

    def dropped(self, stream: str) -> list[Span]: ...

    def close(self) -> None: ...
