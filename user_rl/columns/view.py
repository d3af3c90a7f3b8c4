"""View: one column in memory, made by reading its entries in the order in which they were written.

For each id it keeps the commit that wrote it (so it can tell what was there at any earlier one), and the value if that
is narrow, else where the value lies: those are read from the memory map, entry by entry.
"""

from typing import TYPE_CHECKING

import numpy as np

from user_rl.columns.entry import KEY, ids_of, rows_in_entry, values_of
from user_rl.columns.extents import Extents
from user_rl.columns.file import ColumnFile
from user_rl.errors import StorageError
from user_rl.specs import Array

if TYPE_CHECKING:
    from user_rl.columns.file import Txn

MEMORY_BYTES = 2**30  # of one column in one process, at most


class View:
    """Reads one column. One owner, no lock."""

    def __init__(self, file: ColumnFile, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.file, self.column = file, file.column
        kept = {"value": self.column.empty(0)} if self.column.is_narrow else {"place": np.zeros(0, np.int64)}
        self._extents = Extents({"seq": np.zeros(0, np.int64), **kept}, max_bytes=memory_bytes)
        self._rows = rows_in_entry(self.column)
        self._keys: list[bytes] = []
        self._fresh: dict[bytes, Array] = {}  # wide values that are not committed yet
        self._last = b""
        self.streams: dict[str, int] = {}
        self.seq = 0
        self.refresh()

    def refresh(self) -> None:
        """Takes in what was committed since."""
        with self.file.begin() as txn:
            seq = self.file.seq(txn)
            if seq == self.seq:
                return
            self.streams = self.file.streams(txn)
            for key, data in self.file.entries(txn, self._last):
                number, ids = ids_of(data)
                values = values_of(self.column, data) if self.column.is_narrow else None
                self.take(key, number, ids, values)
            self.seq = seq

    def take(self, key: bytes, number: int, ids: Array, values: Array | None, *, committed: bool = True) -> None:
        """Takes in one entry. `values` may be left out where they are wide and committed."""
        seq = KEY.unpack(key)[0]
        self._extents.cover(number, int(ids.min()), int(ids.max()))
        places, _ = self._extents.places(number, ids)
        self._extents.arrays["seq"][places] = seq
        if self.column.is_narrow:
            self._extents.arrays["value"][places] = values
        else:
            self._extents.arrays["place"][places] = len(self._keys) * self._rows + np.arange(len(ids))
            self._keys.append(key)
            if not committed and values is not None:
                self._fresh[key] = values
        self._last = key

    def committed(self, seq: int) -> None:
        """All that was taken in is on the disk, as commit `seq`."""
        self._fresh.clear()
        self.seq = seq

    @property
    def count(self) -> int:
        """How many ids have a value."""
        return self._extents.counted("seq")

    def present(self, numbers: "Array | int", ids: Array, at_seq: int | None) -> tuple[Array, Array]:
        """(places [n], present [n]): the ids that had a value at commit `at_seq` (None: have one)."""
        places, there = self._extents.places(numbers, ids)
        if not len(self._extents.arrays["seq"]):
            return places, there
        seq = self._extents.arrays["seq"][places]
        there &= seq > 0
        if at_seq is not None:
            there &= seq <= at_seq
        return places, there

    def values(self, numbers: "Array | int", ids: Array, at_seq: int | None) -> tuple[Array, Array]:
        """(values [n, ...], present [n]); where there is none the value is 0 or an empty text."""
        places, present = self.present(numbers, ids, at_seq)
        if self.column.is_narrow and present.all() and len(ids):
            return self._extents.arrays["value"][places], present
        found = self.column.empty(len(ids))
        if self.column.is_narrow:
            found[present] = self._extents.arrays["value"][places[present]]
        elif present.any():
            present = self._read(self._extents.arrays["place"][places], present, found)
        return found, present

    def _read(self, where: Array, present: Array, into: Array) -> Array:
        """Reads wide values entry by entry; what was pruned meanwhile is not present."""
        wanted = np.flatnonzero(present)
        wanted = wanted[np.argsort(where[wanted], kind="stable")]
        entry, row = np.divmod(where[wanted], self._rows)
        cuts = np.flatnonzero(np.diff(entry)) + 1
        still = present.copy()
        with self.file.begin() as txn:
            for rows, members, number in zip(
                np.split(row, cuts), np.split(wanted, cuts), entry[np.append(0, cuts)].tolist(), strict=True
            ):
                values = self._entry(txn, self._keys[number], rows)
                if values is None:
                    still[members] = False
                else:
                    into[members] = values
        return still

    def _entry(self, txn: "Txn", key: bytes, rows: Array) -> Array | None:
        if key in self._fresh:
            return self._fresh[key][rows]
        data = self.file.entry(txn, key)
        return None if data is None else values_of(self.column, data, rows)

    def check_seq(self, at_seq: int | None) -> None:
        """Takes in what is new if that is asked for; raises StorageError for a commit that is not there."""
        if at_seq is None or at_seq > self.seq:
            self.refresh()
        if at_seq is not None and at_seq > self.seq:
            raise StorageError(
                f"{self.file.path}: commit {at_seq} is asked for, it has {self.seq}; restore the column from a backup"
            )
