"""Growing: a numpy vector that is appended to; its room doubles, so an append costs the same however long it is."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from user_rl.specs import Array


class Growing:
    """`array` is a view of what there is now; it is another one after `extend`."""

    def __init__(self, dtype: DTypeLike, room: int = 1024) -> None:
        self._room: Array = np.empty(room, dtype)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def array(self) -> Array:
        return self._room[: self._size]

    def extend(self, values: Array) -> None:
        """Appends `values` [n]."""
        size = self._size + len(values)
        if size > len(self._room):
            room: Array = np.empty(max(size, 2 * len(self._room)), self._room.dtype)
            room[: self._size] = self.array
            self._room = room
        self._room[self._size : size] = values
        self._size = size

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401  # as numpy's own
        return self._room[: self._size][key]
