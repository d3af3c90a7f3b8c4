"""Task: how an episode starts, what a step was worth, and when it is over. `hal.kits.check_task` is the contract."""

from typing import Protocol

import msgspec


class Judgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The worth of the step just taken.

    `done` means terminated (no bootstrap), never a time limit; `truncated` that the task itself cut the episode short
    (bootstrap), which the loop also does at `max_steps`.
    """

    reward: float
    done: bool
    success: bool
    truncated: bool = False


class Task(Protocol):
    """A reset procedure, a reward and an end. A time limit is `max_steps`; the loop truncates there and bootstraps."""

    @property
    def name(self) -> str: ...

    @property
    def max_steps(self) -> int: ...

    def reset(self, seed: int) -> None:
        """Brings the cell to a start drawn from `seed`: the same seed gives the same start."""

    def judge(self) -> Judgement:
        """The worth of the last command, from what the robot measures now."""
