"""Late: what people and programs have said of rows since, as samplers and shapes ask for it.

A column is named in full (`reward@classifier-3`), by its writer (`success@anna`: where several versions have a value,
the newest one's), or by its name alone (`keep`: every writer's). What a draw sees of each ends at a commit that belongs
to its horizon, so a label that comes later changes no draw that was made.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cloud.store.index import Index
from user_rl.columns import ColumnReader, Ids
from user_rl.errors import ConfigError
from user_rl.specs import Array

Found = tuple[Array, Array]  # values [n], present [n]


@dataclass(frozen=True, kw_only=True)
class LateNames:
    """Which columns count, and for what; None: none."""

    reward: str | None = None
    success: str | None = None
    discard: str | None = None
    others: tuple[str, ...] = ()  # that samplers ask for

    def wants(self, identity: str) -> bool:
        """Whether a column is one of them."""
        named = (self.reward, self.success, self.discard, *self.others)
        return any(name is not None and is_named(identity, name) for name in named)


@dataclass(frozen=True, eq=False)
class Late:
    """See cloud.store.view.LateColumns. The columns as they were at the commits `seqs`."""

    reader: ColumnReader
    index: Index
    names: LateNames
    seqs: Mapping[str, int]
    _per: dict[str, str] = field(default_factory=dict)

    def mask(self, column: str, rows: Array) -> Array:
        present: Array = np.zeros(len(rows), np.bool_)
        for _, here in self._found(column, rows):
            present |= here
        return present

    def succeeded(self, rows: Array, own: Array) -> Array:
        return self._over(self.names.success, "replay.success", "episode", rows, own)

    def kept(self, rows: Array) -> Array:
        kept: Array = np.ones(len(rows), np.bool_)
        for values, present in self._found(self.names.discard, rows):
            kept &= ~present | (values != 0)
        return kept

    def rewards(self, rows: Array) -> Array:
        """The rewards of row numbers [...]: the column's where it has one, else the row's own."""
        own = self.index.reward.array[rows.ravel()]
        return self._over(self.names.reward, "replay.reward", "row", rows.ravel(), own).reshape(rows.shape)

    @property
    def discards(self) -> bool:
        """Whether anything may have been discarded."""
        return self.names.discard is not None and any(is_named(each, self.names.discard) for each in self.seqs)

    def _over(self, name: str | None, key: str, per: str, rows: Array, own: Array) -> Array:
        """`own` [n], or what a column says."""
        for values, present in self._found(name, rows):
            if values.ndim != 1 or values.dtype == object or self._per[name or ""] != per:
                raise ConfigError(f"{key} = {name}: not one number for each {per}; name a column that has")
            own = np.where(present, values, own).astype(own.dtype)
        return own

    def _found(self, name: str | None, rows: Array) -> Iterator[Found]:
        """What each writer's newest version says of `rows` [n]."""
        for identities in _by_writer(self.seqs, name):
            found: Found | None = None
            for identity in identities:
                values, present = self.reader.gather(identity, self._ids(identity, rows), self.seqs[identity])
                if found is not None:
                    values = np.where(present, values, found[0]) if values.ndim == 1 else values
                    present = present | found[1]
                found = values, present
                self._per[name or ""] = self.reader.column(identity).per
            if found is not None:
                yield found

    def _ids(self, identity: str, rows: Array) -> Ids:
        index = self.index
        per_row = self.reader.column(identity).per == "row"
        ids = index.step.array[rows] if per_row else index.own.array[index.episode.array[rows]]
        return Ids(index.streams, index.stream.array[rows], ids)


class LateReader:
    """Looks what the columns in a folder have; `path` None: nobody can write any."""

    def __init__(self, path: Path | None, index: Index, names: LateNames) -> None:
        self._reader = None if path is None else ColumnReader(path)
        self._index, self._names = index, names

    def seqs(self) -> dict[str, int]:
        """The newest commit of every column that counts."""
        return {} if self._reader is None else self._reader.seqs(self._names.wants)

    def at(self, seqs: Mapping[str, int]) -> Late | None:
        """The columns at these commits. Raises StorageError when one is not there any more."""
        if self._reader is None:
            return None
        return Late(self._reader, self._index, self._names, seqs)

    def close(self) -> None:
        """Closes the columns."""
        if self._reader is not None:
            self._reader.close()


def is_named(identity: str, name: str) -> bool:
    """Whether `name` stands for the column `identity`: in full, by writer, or by name alone."""
    return name in (identity, identity.rpartition("-")[0], identity.partition("@")[0])


def columns_in(tree: object) -> tuple[str, ...]:
    """The columns that a sampler's tree asks for."""
    if isinstance(tree, Mapping):
        own = [str(tree["column"])] if tree.get("name") == "ready" and "column" in tree else []
        return (*own, *(name for value in tree.values() for name in columns_in(value)))
    return tuple(name for value in tree for name in columns_in(value)) if isinstance(tree, list | tuple) else ()


def _by_writer(seqs: Mapping[str, int], name: str | None) -> list[list[str]]:
    """The columns that `name` stands for: of each writer the versions, oldest first."""
    found = defaultdict[str, list[str]](list)
    for identity in sorted(seqs, key=lambda each: int(each.rpartition("-")[2])):
        if name is not None and is_named(identity, name):
            found[identity.rpartition("-")[0]].append(identity)
    return [found[writer] for writer in sorted(found)]
