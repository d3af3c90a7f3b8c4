"""Cursors: a durable map from a short name to a step, such as how far the cloud has acknowledged each stream."""

from collections.abc import Mapping
from pathlib import Path
from struct import Struct

import lmdb

from user_rl.log.durable import translated

MAP_BYTES = 16 * 2**20
_VALUE = Struct("<q")


class Cursors:
    """An LMDB environment of its own; every `put` is synced. One process, one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with translated(path, 16384):
            path.mkdir(parents=True, exist_ok=True)
            self._env = lmdb.open(str(path), map_size=MAP_BYTES)

    def get(self, name: str, default: int = -1) -> int:
        """The cursor of `name`."""
        with self._env.begin() as txn:
            value = txn.get(name.encode())
            return default if value is None else int(_VALUE.unpack(value)[0])

    def put(self, cursors: Mapping[str, int]) -> None:
        """Sets some cursors, all or none, durably. Raises StorageFull."""
        with translated(self.path, 16384), self._env.begin(write=True) as txn:
            for name, cursor in cursors.items():
                txn.put(name.encode(), _VALUE.pack(cursor))

    def all(self) -> dict[str, int]:
        """Every cursor."""
        with self._env.begin() as txn:
            return {name.decode(): _VALUE.unpack(value)[0] for name, value in txn.cursor()}

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def __enter__(self) -> "Cursors":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
