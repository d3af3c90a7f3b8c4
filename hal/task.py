"""Task: how an episode starts, what a step was worth, and when it is over. `hal.kits.check_task` is the contract."""

from typing import Protocol, runtime_checkable

import msgspec

from hal.robot import Robot


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


@runtime_checkable
class GoesHome(Protocol):
    """A task that can bring its robot to a safe pose, slowly and behind its guard."""

    @property
    def has_home(self) -> bool:
        """Whether the configuration says where that is."""

    def go_home(self) -> None:
        """Goes there; raises RobotFault when it does not get there in time, and what the robot raises."""


@runtime_checkable
class Drives(Protocol):
    """A task whose resets move a real robot."""

    def drive(self, robot: Robot) -> None:
        """The robot behind its guard, which resets command from now on."""
