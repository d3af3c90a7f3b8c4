"""Chunks: several actions at once, and which of them acts at which step when a new chunk comes while another runs.

A chunk is made from the observation at step s and says what to do at s, s+1, ... s+H-1. Whoever makes it is far away,
so it is usable d steps later, and its first d actions are of the past. Real-time chunking: what was bound to run before
the chunk could come stays as it was (it is *frozen*), over the overlap with the running plan both are blended, beyond
it the new chunk acts alone.

Source of the soft mask: Black et al. 2025 (real-time chunking, arXiv:2506.07339), equation 5. Differs: there the mask
guides the denoising of a flow policy; here it weighs the finished actions, which any policy allows. A policy that can
complete a chunk from its beginning says so (`takes_prefix`) and is given the frozen actions.

Shape letters: H steps of a chunk, N steps of the plan, A elements of an action. Plain numpy, no clock.
"""

import math
from dataclasses import dataclass

import numpy as np

from user_rl.specs import Array


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The actions [H, A] of steps `first` to `first + H - 1`, made from the observation at `first`."""

    first: int
    actions: Array
    version: int
    version_hash: bytes

    @property
    def end(self) -> int:
        """The step after the last one."""
        return self.first + len(self.actions)


def old_weights(frozen: int, overlap: int) -> Array:
    """The running plan's weight [overlap] at each step i of a new chunk; the new chunk's is what is left of 1.

    w_i = 1 for i < d; w_i = c_i (e^c_i - 1) / (e - 1), c_i = (n - i) / (n - d + 1), for d <= i < n; and 0 from n on,
    where d = `frozen` and n = `overlap`, the steps for which the running plan still has actions.
    """
    if overlap <= frozen:
        return np.ones(max(0, overlap))
    c = (overlap - np.arange(overlap)) / (overlap - frozen + 1)
    w: Array = np.where(np.arange(overlap) < frozen, 1.0, c * np.expm1(np.minimum(c, 1.0)) / (math.e - 1))
    return w


class Player:
    """The plan: an action for every step from the present to the end of the newest chunk. One thread."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets every action: another episode begins."""
        self._newest = -1  # the step whose observation the newest chunk was made from
        self._first = 0  # the step of the plan's first action
        self._actions: Array = np.zeros((0, 0), np.float32)  # [N, A]
        self._versions: list[tuple[int, bytes]] = []  # [N]

    @property
    def end(self) -> int:
        """The step after the last that has an action."""
        return self._first + len(self._versions)

    def remaining(self, step: int) -> int:
        """How many steps from `step` on have an action."""
        return max(0, self.end - step) if step >= self._first else 0

    def at(self, step: int) -> tuple[Array, int, bytes] | None:
        """The action [A] of `step`, and the version and hash of the weights behind it; None: there is none."""
        if not self.remaining(step):
            return None
        i = step - self._first
        return (self._actions[i], *self._versions[i])

    def prefix(self, step: int, count: int) -> Array:
        """The actions [n, A] of `step` and what follows, at most `count`."""
        return self._actions[step - self._first :][: min(count, self.remaining(step))]

    def add(self, chunk: Chunk, *, now: int, frozen: int) -> bool:
        """Takes in a chunk that is usable from step `now` on, to whose end the plan then goes.

        False, and nothing changes: all its steps are of the past, or a newer observation has been answered already.
        `frozen`: steps from the chunk's first that were bound to run before it could come. What has already run is so
        in any case. A step belongs to the version that has the greater weight in it.
        """
        late = now - chunk.first
        if chunk.first <= self._newest or late < 0 or late >= len(chunk.actions):
            return False
        start, old = now - self._first, self.remaining(now)
        overlap = min(late + old, len(chunk.actions))
        weights = old_weights(max(late, frozen), overlap)[late:, None]  # [overlap - late, 1]
        blended = len(weights)
        actions = chunk.actions[late:].astype(np.float32)
        if blended:
            before = self._actions[start : start + blended]
            actions[:blended] = weights * before + (1 - weights) * actions[:blended]
        new = (chunk.version, chunk.version_hash)
        kept = [self._versions[start + i] if weights[i, 0] >= 0.5 else new for i in range(blended)]
        self._newest, self._first, self._actions = chunk.first, now, actions
        self._versions = kept + [new] * (len(actions) - blended)
        return True
