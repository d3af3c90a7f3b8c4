"""Window: the tickets of those rows of a pool that may be drawn, over a stretch that moves on as rows come and go.

A row is known by its position in the pool's list, which never changes while the index lives.
"""

import numpy as np

from cloud.store.priority import ONE, SumTree, room_for
from cloud.store.view import View
from user_rl.specs import Array

Changes = list[tuple[Array, Array]]  # positions, and their tickets before; in the order they were made


class Window:
    """Positions `first` to `end` have been looked at; those that may be drawn have tickets. One owner."""

    def __init__(self) -> None:
        self.tree, self._base = SumTree(room_for(0)), 0  # the position of leaf 0
        self.first = self.end = 0
        self.highest = ONE  # tickets of a new row: as many as any row ever had
        self._waiting: Array = np.empty(0, np.int64)  # positions of rows that may not be drawn yet
        self._changes: Changes = []
        self._stamp: object = None  # of the last move

    def move(self, seen: View, listed: Array, first: int, end: int, stamp: object = None) -> None:
        """Rows `listed[first:end]` are there now: those before them go, new ones that fit `seen` come in.

        A row whose successor, or whatever else it lacks, comes later is looked at again at every move; so is every
        row when `stamp` is another one than at the last move.
        """
        gone = np.arange(self.first, min(first, self.end))
        self._set(gone, np.zeros(len(gone), np.int64))
        self._make_room(first, end)
        new = np.concatenate([self._waiting[self._waiting >= first], np.arange(max(self.end, first), end)])
        fits = seen.fits(listed[new])
        self._set(new[fits], np.full(np.count_nonzero(fits), self.highest))
        self._waiting = new[~fits & seen.index.is_step.array[listed[new]]]
        self.first, self.end = first, end
        if stamp != self._stamp:
            self._stamp = stamp
            self._look_again(seen, listed)

    def put(self, positions: Array, tickets: Array) -> None:
        """New tickets for the positions that still have some; the last one counts where one is named twice."""
        if not len(positions):
            return
        self.highest = max(self.highest, int(tickets.max()))
        last = len(positions) - 1 - np.unique(positions[::-1], return_index=True)[1]
        last = last[(positions[last] >= self.first) & (positions[last] < self.end)]
        last = last[self.tree.get(positions[last] - self._base) > 0]
        self._set(positions[last], tickets[last])

    def restore(self, positions: Array, tickets: Array, first: int, end: int) -> None:
        """Begins with these tickets, for a window of which nothing else is known; `positions` are distinct."""
        self.tree, self._base, self.first = SumTree(room_for(end - first)), first, first
        here = (positions >= first) & (positions < end)
        self.tree.set(positions[here] - first, tickets[here])
        every = np.arange(first, end)
        self._waiting, self.end = every[self.tree.get(every - first) == 0], end

    def find(self, drawn: Array) -> tuple[Array, Array]:
        """The positions that hold the tickets `drawn` [n], and how many tickets each has."""
        leaves = self.tree.find(drawn)
        return self._base + leaves, self.tree.get(leaves)

    def changes(self) -> Changes:
        """What has changed since the last call."""
        done, self._changes = self._changes, []
        return done

    def before(self, steps: list[Changes], first: int) -> tuple[Array, Array]:
        """Positions and tickets as they were before `steps` of changes, of positions from `first` on."""
        every = np.arange(first, max(first, self.end))
        tickets: Array = np.zeros(len(every), np.int64)
        tickets[self.first - first :] = self.tree.get(np.arange(self.first, self.end) - self._base)
        for changes in reversed(steps):
            for positions, old in reversed(changes):
                tickets[positions - first] = old
        had = tickets > 0
        return every[had], tickets[had]

    def _set(self, positions: Array, tickets: Array) -> None:
        if len(positions):
            leaves = positions - self._base
            self._changes.append((positions, self.tree.get(leaves)))
            self.tree.set(leaves, tickets)

    def _look_again(self, seen: View, listed: Array) -> None:
        every = np.arange(self.first, self.end)
        fits, has = seen.fits(listed[every]), self.tree.get(every - self._base) > 0
        self._set(every[has & ~fits], np.zeros(np.count_nonzero(has & ~fits), np.int64))
        self._set(every[fits & ~has], np.full(np.count_nonzero(fits & ~has), self.highest))
        self._waiting = every[~fits & seen.index.is_step.array[listed[every]]]

    def _make_room(self, first: int, end: int) -> None:
        """Moves the live tickets to a tree that starts at `first`, when this one is too short for `end`."""
        if end - self._base <= self.tree.size:
            return
        kept = np.arange(min(first, self.end), self.end)
        tickets = self.tree.get(kept - self._base)
        self.tree, self._base = SumTree(room_for(end - first)), first
        self.tree.set(kept - first, tickets)
