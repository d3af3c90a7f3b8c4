"""A sum tree: draws a leaf in proportion to its weight in log2(size) steps, for a whole batch at once.

Weights are whole numbers of tickets, so sums are exact: the same tickets draw the same rows whatever changes came
before and however large the tree is. Rounding moves a probability by less than 1 / (2 tickets) of itself.
"""

import numpy as np

from user_rl.specs import Array

ONE = 1 << 24  # tickets of weight 1
MOST = 1 << 40  # of one leaf: 2**22 leaves of so many still sum up exactly
REBUILD = 8  # setting more than one leaf in so many is done level by level


def tickets(weights: Array) -> Array:
    """Weights [n] ≥ 0 as tickets [n] int64: at least one, at most MOST."""
    whole = np.rint(np.minimum(weights, MOST / ONE) * ONE)
    return np.asarray(np.clip(whole, 1, MOST), np.int64)


class SumTree:
    """`size` leaves, a power of two, with nothing on them."""

    def __init__(self, size: int) -> None:
        self.size, self.count = size, 0  # count: leaves that have a ticket
        self._sums: Array = np.zeros(2 * size, np.int64)  # node i has the children 2i and 2i + 1; 1 is the root

    @property
    def total(self) -> int:
        """Tickets on all leaves."""
        return int(self._sums[1])

    def get(self, leaves: Array) -> Array:
        """The tickets on `leaves` [n]."""
        return np.asarray(self._sums[self.size + leaves])

    def set(self, leaves: Array, values: Array) -> None:
        """Puts `values` [n] tickets on `leaves` [n], each of which is named once."""
        nodes = self.size + leaves
        self.count += int(np.count_nonzero(values)) - int(np.count_nonzero(self._sums[nodes]))
        self._sums[nodes] = values
        if len(leaves) * REBUILD > self.size:
            self._rebuild()
            return
        while len(nodes) and nodes[0] > 1:
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, drawn: Array) -> Array:
        """The leaf that holds each ticket of `drawn` [n], numbers from 0 to total - 1, leaf after leaf."""
        left, nodes = drawn.copy(), np.ones(len(drawn), np.int64)
        for _ in range(self.size.bit_length() - 1):
            nodes *= 2
            before = self._sums[nodes]
            right = left >= before
            left -= before * right
            nodes += right
        return nodes - self.size

    def strata(self, rng: np.random.Generator, count: int) -> Array:
        """`count` tickets, one from each of as many equal parts of all tickets."""
        if self.total < count:
            return rng.integers(self.total, size=count)
        whole, rest = divmod(self.total, count)
        parts = np.arange(count + 1, dtype=np.int64)
        edges = parts * whole + parts * rest // count
        return rng.integers(edges[:-1], edges[1:])

    def _rebuild(self) -> None:
        level = self.size
        while level > 1:
            below = self._sums[level : 2 * level]
            level //= 2
            self._sums[level : 2 * level] = below[0::2] + below[1::2]


def room_for(count: int) -> int:
    """A power of two with twice the room that `count` leaves need."""
    return 1 << max(10, (2 * count).bit_length())
