"""Shapes: what a sample is, beginning at a drawn row: a transition, n steps, a chunk of actions, a sequence.

All of them follow `next` from the drawn row for some steps within the view's horizon. They stop at a termination; at a
truncation, a crash or the horizon, where the last observation that is there stands for what follows (it bootstraps);
and, if asked, where a person's hand comes or goes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloud.store.view import View
from user_rl.config import Tree, build, nearest
from user_rl.errors import ConfigError, SpecError
from user_rl.specs import Array


@dataclass(frozen=True, eq=False)
class Walk:
    """Consecutive steps from B rows on, of at most L; `mask` begins with True and has no gap."""

    rows: Array  # [B, L] int64, the last step repeated where masked
    mask: Array  # [B, L] bool
    after: Array  # [B] int64, the row whose observation follows the last step

    @property
    def last(self) -> Array:
        """The last step, [B]."""
        return np.asarray(self.rows[:, -1])


@dataclass(frozen=True, eq=False)
class Shaped:
    """One sample each of B. [B, ...] means [B], or [B, L] for shapes with a length."""

    observed: Array  # [B, ...] rows whose observation is wanted: the first step's; all in a sequence
    acted: Array  # [B, ...] rows whose action is wanted: the first step's; all in a chunk or a sequence
    after: Array  # [B] rows of the observation that follows the last step
    mask: Array  # [B, L] bool, which of `acted` are there; [B, 1] where L is 1
    reward: Array  # [B] float32, sum of gamma^i r_i over the steps; [B, L], one each and 0 where masked, in a sequence
    discount: Array  # [B] float32, gamma^(number of steps); 0 after a termination, so nothing bootstraps
    done: Array  # [B] bool, the last step terminated
    truncated: Array  # [B] bool, the last step was cut off by the task's time limit or by a person
    length: Array  # [B] int64, steps that are there


def walk(seen: View, rows: Array, length: int, *, cut_at_takeover: bool = False) -> Walk:
    """Up to `length` steps from `rows` [B] on, each of which must be a transition; raises SpecError if one is not."""
    if not seen.is_transition(rows).all():
        raise SpecError(f"{int((~seen.is_transition(rows)).sum())} of {len(rows)} rows are no transition; draw others")
    index = seen.index
    steps: Array = np.empty((len(rows), length), np.int64)
    mask: Array = np.empty((len(rows), length), np.bool_)
    here, there, hand = rows, np.ones(len(rows), np.bool_), index.intervened.array[rows]
    for i in range(length):
        steps[:, i], mask[:, i] = here, there
        following = index.next.array[here]
        there = there & ~index.done.array[here] & seen.is_transition(following)
        if cut_at_takeover:
            there &= index.intervened.array[following] == hand
        here = np.where(there, following, here)
    return Walk(steps, mask, index.next.array[steps[:, -1]])


@dataclass(frozen=True, kw_only=True)
class TransitionConfig:
    """One step."""

    gamma: float = 0.97

    def __post_init__(self) -> None:
        _check(self.gamma, 1)


@dataclass(frozen=True, kw_only=True)
class StepsConfig:
    """How many steps, and what ends them early. Rewards are discounted by `gamma` a step."""

    length: int
    gamma: float = 0.97
    cut_at_takeover: bool = False  # where a person's hand comes or goes

    def __post_init__(self) -> None:
        _check(self.gamma, self.length)


Rewards = Callable[[Array], Array]  # row numbers [...] → their rewards [...]
Shape = Callable[[View, Array, Rewards | None], Shaped]  # view, rows [B], late rewards or None for the rows' own


def transition(config: TransitionConfig) -> Shape:
    """Row t and row t+1."""
    return n_step(StepsConfig(length=1, gamma=config.gamma))


def n_step(config: StepsConfig) -> Shape:
    """The first step's observation and action, and what follows after up to `length` steps."""

    def shape(seen: View, rows: Array, reward: Rewards | None = None) -> Shaped:
        found = _walk(seen, rows, config)
        return _shaped(seen, found, config.gamma, reward, observed=found.rows[:, 0], acted=found.rows[:, 0])

    return shape


def chunk(config: StepsConfig) -> Shape:
    """The first step's observation and the actions of all steps, as a policy of action chunks learns them."""

    def shape(seen: View, rows: Array, reward: Rewards | None = None) -> Shaped:
        found = _walk(seen, rows, config)
        return _shaped(seen, found, config.gamma, reward, observed=found.rows[:, 0], acted=found.rows)

    return shape


def sequence(config: StepsConfig) -> Shape:
    """Observation, action and reward of every step."""

    def shape(seen: View, rows: Array, reward: Rewards | None = None) -> Shaped:
        found = _walk(seen, rows, config)
        return _shaped(seen, found, config.gamma, reward, observed=found.rows, acted=found.rows, each=True)

    return shape


SHAPES: dict[str, tuple[Callable[[Any], Shape], type]] = {
    "transition": (transition, TransitionConfig),
    "n_step": (n_step, StepsConfig),
    "chunk": (chunk, StepsConfig),
    "sequence": (sequence, StepsConfig),
}


def make_shape(tree: Tree, path: str = "replay.shape.") -> Shape:
    """The shape that `tree` names; raises ConfigError naming the key."""
    name = tree.get("name")
    if name not in SHAPES:
        raise ConfigError(f"{path}name = {name!r}: no such shape, {nearest(str(name), list(SHAPES))}")
    make, config = SHAPES[name]
    return make(build(config, {k: v for k, v in tree.items() if k != "name"}, path))


def _walk(seen: View, rows: Array, config: StepsConfig) -> Walk:
    return walk(seen, rows, config.length, cut_at_takeover=config.cut_at_takeover)


def _shaped(
    seen: View, found: Walk, gamma: float, reward: Rewards | None, *, observed: Array, acted: Array, each: bool = False
) -> Shaped:
    index, length = seen.index, found.mask.sum(axis=1)
    rewards = np.where(found.mask, index.reward.array[found.rows] if reward is None else reward(found.rows), 0.0)
    powers = gamma ** np.arange(found.mask.shape[1] + 1)
    done = index.done.array[found.last]
    return Shaped(
        observed=observed, acted=acted, after=found.after,
        mask=found.mask if acted.ndim == 2 else found.mask[:, :1],
        reward=np.asarray(rewards if each else rewards @ powers[:-1], np.float32),
        discount=np.where(done, 0.0, powers[length]).astype(np.float32),
        done=done, truncated=index.truncated.array[found.last] & ~done, length=length,
    )  # fmt: skip


def _check(gamma: float, length: int) -> None:
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma = {gamma}, allowed 0 to 1; it discounts a step")
    if length < 1:
        raise ValueError(f"length = {length}, allowed 1 or more; a sample has a step")
