"""ColumnReader: another process's view of late columns while their owner goes on. One thread.

`at_seq` asks for a column as it was at that commit; None: as it is now. A checkpoint keeps `seqs()`, so that a resumed
learner sees exactly what it saw. The process that writes the columns reads through its `Columns`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from user_rl.columns.file import ColumnFile
from user_rl.columns.owner import names_in
from user_rl.columns.spec import Column
from user_rl.columns.view import MEMORY_BYTES, View
from user_rl.errors import SpecError, StorageError
from user_rl.specs import Array


@dataclass(frozen=True)
class Ids:
    """Many ids of many streams: id i belongs to `streams[which[i]]`; steps, or episode numbers for such columns."""

    streams: Sequence[str]
    which: Array  # [n] int
    ids: Array  # [n] int

    @classmethod
    def of(cls, streams: Sequence[str], ids: Array) -> "Ids":
        """From one stream's name for each id."""
        names: dict[str, int] = {}
        which = np.array([names.setdefault(name, len(names)) for name in streams], np.int64)
        return cls(tuple(names), which, np.asarray(ids))


class ColumnReader:
    """Reads the columns in one folder; a folder that is not there has none."""

    def __init__(self, path: Path, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.path, self._memory_bytes = path, memory_bytes
        self._views: dict[str, View] = {}

    def names(self) -> list[str]:
        """The identities of the columns that there are now."""
        return names_in(self.path)

    def versions(self, name: str, writer: str) -> list[str]:
        """The identities of one writer's columns of that name, oldest version first."""
        found = [name_ for name_ in self.names() if name_.startswith(f"{name}@{writer}-")]
        return sorted(found, key=lambda identity: int(identity.rpartition("-")[2]))

    def column(self, identity: str) -> Column:
        """What a column is; raises StorageError when there is none."""
        return self._view(identity).column

    def seqs(self, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, int]:
        """The newest commit of every column whose identity is `wanted`; the others are not opened."""
        names = [identity for identity in self.names() if wanted(identity)]
        for identity in names:
            self._view(identity).refresh()
        return {identity: self._views[identity].seq for identity in names}

    def count(self, identity: str) -> int:
        """How many ids have a value."""
        return self._view(identity).count

    def latest(
        self, name: str, writer: str, ids: Ids, at: Mapping[str, int] | None = None
    ) -> tuple[Array, Array] | None:  # fmt: skip
        """(values [n, ...], present [n]) over all versions of one writer, the newer one's where both have one.

        None while there is no such column. `at`: commits, as `seqs` gave them; a column that it does not name is new.
        """
        found: tuple[Array, Array] | None = None
        for identity in self.versions(name, writer):
            values, present = self.gather(identity, ids, None if at is None else at.get(identity, 0))
            if found is not None:
                values[~present] = found[0][~present]
                present |= found[1]
            found = values, present
        return found

    def values(
        self, identity: str, stream: str, ids: Array, at_seq: int | None = None
    ) -> tuple[Array, Array]:  # fmt: skip
        """(values [n, ...], present [n]) of one stream's ids; where there is none the value is 0 or an empty text."""
        view = self._view(identity)
        view.check_seq(at_seq)
        return view.values(view.streams.get(stream, -1), np.asarray(ids).astype(np.int64), at_seq)

    def gather(self, identity: str, ids: Ids, at_seq: int | None = None) -> tuple[Array, Array]:
        """As `values`, over many streams."""
        view = self._view(identity)
        view.check_seq(at_seq)
        return view.values(_numbers(view, ids), np.asarray(ids.ids).astype(np.int64), at_seq)

    def mask(self, identity: str, ids: Ids, at_seq: int | None = None) -> Array:
        """[n] bool: which ids have a value. A column that is not there yet has none."""
        if identity not in self._views and identity not in self.names():
            return np.zeros(len(ids.ids), bool)
        view = self._view(identity)
        view.check_seq(at_seq)
        return view.present(_numbers(view, ids), np.asarray(ids.ids).astype(np.int64), at_seq)[1]

    def ready(self, identities: Sequence[str], ids: Ids, at: Mapping[str, int] | None = None) -> Array:
        """[n] bool: which ids have a value in every one of the columns. `at`: commits, as `seqs` gave them."""
        found = np.ones(len(ids.ids), bool)
        for identity in identities:
            found &= self.mask(identity, ids, None if at is None else at.get(identity, 0))
        return found

    def override(self, identity: str, ids: Ids, into: Array, at_seq: int | None = None) -> Array:
        """Puts a column's values into `into` [n, ...] where it has any, such as a batch's rewards; [n] bool where."""
        values, present = self.gather(identity, ids, at_seq)
        if values.dtype == object or values.shape != into.shape:
            raise SpecError(
                f"{identity}: values of {values.dtype} {list(values.shape)} cannot stand for "
                f"{into.dtype} {list(into.shape)}; choose another column"
            )
        into[present] = values[present]
        return present

    def close(self) -> None:
        """Closes every column; they open again when asked for."""
        for view in self._views.values():
            view.file.close()
        self._views.clear()

    def __enter__(self) -> "ColumnReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _view(self, identity: str) -> View:
        if identity not in self._views:
            if identity not in self.names():
                raise StorageError(
                    f"{self.path}: no column {identity}, it has {self.names()[:5]}; label some rows first"
                )
            file = ColumnFile(self.path / identity)
            try:
                self._views[identity] = View(file, memory_bytes=self._memory_bytes)
            except BaseException:
                file.close()
                raise
        return self._views[identity]


def _numbers(view: View, ids: Ids) -> Array:
    table = np.array([view.streams.get(name, -1) for name in ids.streams] or [-1], np.int64)
    found: Array = table[ids.which]
    return found
