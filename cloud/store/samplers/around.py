"""What a sampler is made with, beside its own config; and the part of the tree that names another sampler."""

from collections.abc import Callable
from dataclasses import dataclass

from cloud.store.sampler import Sampler
from user_rl.config import Tree


@dataclass(frozen=True)
class Around:
    """`make` builds the sampler that a tree names; its second argument is the tree's key below `path`."""

    path: str
    look_ahead: int  # K: draws made before the priorities of the first of them act
    make: Callable[[Tree, str], Sampler]


def uniform() -> Tree:
    """The default of what a condition is put around: all online rows alike."""
    return {"name": "uniform"}
