"""Driver: what a table in `hal.tables` holds, and what a package of somebody else offers by an entry point.

In that package's pyproject.toml, `my_arm` being the name in `robot=my_arm`:

    [project.entry-points."user_rl.robots"]
    my_arm = "my_package.my_arm:DRIVER"

The groups are user_rl.robots, user_rl.cameras, user_rl.teleops and user_rl.tasks. docs/drivers.md has a whole example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from hal.sim.tools import Tool
from user_rl.clock import Clock

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a part is made from: the clock, a seed, and the parts made before it (the robot without its guard)."""

    clock: Clock
    seed: int
    name: str = ""  # of a camera
    tool: Tool = Tool.PEG  # what a simulated arm holds
    robot: Any = None
    task: Any = None


class Driver(NamedTuple, Generic[T]):
    """A frozen, keyword-only config dataclass, and what makes the Robot, Camera, Teleop or Task from one."""

    config: type
    make: Callable[[Any, Parts], T]
