"""What the readers of other formats hand over: raw episodes of named columns, and what a format must offer."""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column as its format describes it."""

    shape: tuple[int, ...]  # of one step
    is_picture: bool
    names: tuple[str, ...] | None = None  # of a vector's elements


@dataclass(kw_only=True)
class Raw:
    """One episode of T steps, in its format's own names."""

    where: str  # for messages
    columns: dict[str, Array]  # [T, ...]
    after: dict[str, Array] = field(default_factory=dict)  # observations after the last action, where there are some
    stamps_s: Array  # [T], from the episode's beginning
    task: str = ""


class Dataset(Protocol):
    """A dataset of another format, open for reading."""

    name: str  # of the cell that its rows are filed under
    rate_hz: float
    columns: dict[str, Column]
    usual: dict[str, tuple[str, ...]]  # our name -> its columns, put behind each other, where no map says otherwise

    def files(self) -> Sequence[Path]:
        """Every file that belongs to it, in a fixed order."""
        ...

    def episodes(self, wanted: Set[str]) -> Iterator[Raw]:
        """The episodes with the columns `wanted`; raises StorageCorrupt or SpecError naming the file or episode."""
        ...

    def close(self) -> None:
        """Closes its files."""
        ...
