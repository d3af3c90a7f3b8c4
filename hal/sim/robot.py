"""A simulated arm, driven by its tip or its joints: physics and kinematics. Needs mujoco and mink (extra `sim`)."""

import numpy as np

from hal.end_effector import DeltaEndEffector
from hal.joints import DeltaJoints
from hal.kinematics import MinkKinematics
from hal.robot import Robot
from hal.sim.arm import SimArm
from hal.sim.arms import Arm, Control, SimArmConfig
from hal.sim.gripper import Gripping
from hal.sim.tools import Tool
from hal.sim.world import scene_xml
from user_rl.clock import Clock
from user_rl.errors import ConfigError


def make_sim_robot(arm: Arm, config: SimArmConfig, tool: Tool, *, clock: Clock) -> Robot:
    """`arm` with `tool` in a world of its own, to which a task may add until it is opened."""
    bare = scene_xml(arm, [], substep_s=config.substep_s)
    kinematics = MinkKinematics(bare, np.asarray(arm.home), period_s=1.0 / config.rate_hz)
    sim = SimArm(arm, config, clock=clock, tool=tool)
    hand = DeltaEndEffector(sim, kinematics, config.hand)
    if config.control is Control.TIP:
        return Gripping(hand, sim.world) if tool is Tool.GRIPPER else hand
    if tool is Tool.GRIPPER:
        raise ConfigError("robot.control = joints at a task with a gripper, allowed tip; set robot.control=tip")
    return DeltaJoints(hand, np.asarray(arm.home), config.joints)
