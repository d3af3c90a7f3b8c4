"""Which parts need a simulated arm, and how they find it under what wraps it."""

from typing import Any

from hal.driver import Parts
from hal.end_effector import DeltaEndEffector
from hal.sim.arms import ARM6, PANDA
from user_rl.errors import ConfigError


def simulated(parts: Parts, who: str) -> Any:  # noqa: ANN401  # the arm's type would load mujoco
    """(tip, arm) of the simulated robot among `parts`; raises ConfigError for another, which `who` cannot do with."""
    hand = parts.robot
    while not isinstance(hand, DeltaEndEffector) and hasattr(hand, "robot"):
        hand = hand.robot
    if not (isinstance(hand, DeltaEndEffector) and hasattr(hand.robot, "world")):
        allowed = " or ".join(f"robot={arm.model}" for arm in (PANDA, ARM6))
        raise ConfigError(f"{who} on {parts.robot.spec.model}, allowed on {allowed}; choose one of these")
    return hand, hand.robot
