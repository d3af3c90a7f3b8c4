"""Tasks: what `task.name` may be, and how each is made for the robot that there is."""

from collections.abc import Callable, Mapping
from typing import Any

from hal.driver import Parts
from hal.gymnasium import GymnasiumRobot, GymnasiumTask, GymnasiumTaskConfig
from hal.operated import Operated, OperatedConfig
from hal.sim.button_press import ButtonPress, ButtonPressConfig
from hal.sim.cap_tightening import CapTightening, CapTighteningConfig
from hal.sim.charger_plugging import ChargerPlugging, ChargerPluggingConfig
from hal.sim.peg_insertion import PegInsertion, PegInsertionConfig
from hal.sim.pick_and_place import PickAndPlace, PickAndPlaceConfig
from hal.sim.table_cleanup import TableCleanup, TableCleanupConfig
from hal.sim.tools import Tool
from hal.tables.choose import Choice, choose
from hal.tables.simulated import simulated
from hal.task import Task
from hal.testing import CoastingRobot, FakeRobot, FakeTask, FakeTaskConfig
from user_rl.errors import ConfigError


def make_task(tree: Mapping[str, Any], parts: Parts) -> Task:
    """The task that `tree` names; raises ConfigError."""
    return choose("task", TASKS, tree, "task", parts)


def tool_of(tree: Mapping[str, Any]) -> Tool:
    """What the task's config wants in the hand; the peg where it wants nothing."""
    config, _ = TASKS.get(str(tree.get("name")), (None, None))
    return getattr(config, "tool", Tool.PEG)


def _gymnasium_task(config: GymnasiumTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, GymnasiumRobot):
        raise ConfigError(f"task=gymnasium on {parts.robot.spec.model}, allowed on robot=gymnasium; choose that robot")
    return GymnasiumTask(config, parts.robot)


def _sim_task(name: str, cls: Callable[[Any, Any, Any], Task]) -> Callable[[Any, Parts], Task]:
    return lambda config, parts: cls(config, *simulated(parts, f"task={name}"))


def _fake_task(config: FakeTaskConfig, parts: Parts) -> Task:
    if not isinstance(parts.robot, FakeRobot | CoastingRobot):
        raise ConfigError(
            f"task=fake on {parts.robot.spec.model}, allowed on robot=fake or coasting; choose one of these"
        )
    return FakeTask(config, parts.robot)


TASKS: dict[str, Choice[Task]] = {
    "peg_insertion": (PegInsertionConfig, _sim_task("peg_insertion", PegInsertion)),
    "button_press": (ButtonPressConfig, _sim_task("button_press", ButtonPress)),
    "charger_plugging": (ChargerPluggingConfig, _sim_task("charger_plugging", ChargerPlugging)),
    "pick_and_place": (PickAndPlaceConfig, _sim_task("pick_and_place", PickAndPlace)),
    "cap_tightening": (CapTighteningConfig, _sim_task("cap_tightening", CapTightening)),
    "table_cleanup": (TableCleanupConfig, _sim_task("table_cleanup", TableCleanup)),
    "operated": (OperatedConfig, lambda config, parts: Operated(config, parts.robot, clock=parts.clock)),
    "gymnasium": (GymnasiumTaskConfig, _gymnasium_task),
    "fake": (FakeTaskConfig, _fake_task),
}
