"""Two arms as tables, and the MJCF that follows from them: capsules between joints, and a tool at the end.

With all joints at zero every link's frame is parallel to the base's, so that a row is an offset and an axis. The
lengths are those of a Franka Panda and of a UR5e; masses and gains are ours: motors track within about 0.1 s and give
way in contact. Gravity is compensated, as these arms' own controllers do.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement

from hal.end_effector import EndEffectorConfig
from hal.joints import JointsConfig
from hal.sim.shapes import BLUE, WHITE, Vector, text
from hal.sim.tools import Tool, add_tool

_MAX_SUBSTEP_S = 0.006  # beyond it contact is no longer stiff enough

_Z, _NEG_Z, _Y, _NEG_Y = (0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0)


class Control(StrEnum):
    """What a command moves."""

    TIP = "tip"  # four numbers, whatever the arm
    JOINTS = "joints"  # as many as the arm has


@dataclass(frozen=True, kw_only=True)
class SimArmConfig:
    """How fast the arm is commanded, how finely its physics is integrated, and how it is driven."""

    rate_hz: float = 10.0
    substep_s: float = 0.002  # MuJoCo's own default
    control: Control = Control.TIP
    hand: EndEffectorConfig = field(default_factory=EndEffectorConfig)
    joints: JointsConfig = field(default_factory=JointsConfig)

    def __post_init__(self) -> None:
        if not 0 < self.substep_s <= _MAX_SUBSTEP_S:
            raise ValueError(f"substep_s = {self.substep_s}, allowed above 0 to {_MAX_SUBSTEP_S}; make it smaller")
        if not 0 < self.rate_hz * self.substep_s <= 1:
            raise ValueError(f"rate_hz = {self.rate_hz}, allowed above 0 to {1 / self.substep_s:.4g}; make it smaller")


@dataclass(frozen=True, kw_only=True)
class Joint:
    """A hinge: where it sits in its parent's frame, its axis, its range, and its motor."""

    name: str
    at_m: Vector
    axis: Vector
    low: float  # rad
    high: float  # rad
    torque_nm: float
    stiffness: float  # Nm/rad
    radius_m: float
    mass_kg: float


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A serial arm: its joints from the base outwards, how the hand is mounted, and a posture to return to."""

    model: str
    joints: tuple[Joint, ...]
    hand_at_m: Vector
    hand_euler: Vector  # rad; the hand points along its own -z
    home: tuple[float, ...]  # rad: the tip points down over the middle of the workspace

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)


def _joints(rows: list[tuple[str, Vector, Vector, float, float, float, float, float, float]]) -> tuple[Joint, ...]:
    keys = ("name", "at_m", "axis", "low", "high", "torque_nm", "stiffness", "radius_m", "mass_kg")
    return tuple(Joint(**dict(zip(keys, row, strict=True))) for row in rows)  # type: ignore[arg-type]


PANDA = Arm(
    model="panda_sim",
    joints=_joints([
        ("joint1", (0, 0, 0.333), _Z, -2.89, 2.89, 87, 3000, 0.060, 3.0),
        ("joint2", (0, 0, 0), _Y, -1.76, 1.76, 87, 3000, 0.060, 3.0),
        ("joint3", (0, 0, 0.316), _Z, -2.89, 2.89, 87, 2000, 0.055, 2.5),
        ("joint4", (0.0825, 0, 0), _NEG_Y, -3.07, -0.07, 87, 2000, 0.055, 2.5),
        ("joint5", (-0.0825, 0, 0.384), _Z, -2.89, 2.89, 12, 500, 0.050, 1.5),
        ("joint6", (0, 0, 0), _NEG_Y, -0.01, 3.75, 12, 500, 0.050, 1.5),
        ("joint7", (0.088, 0, 0), _NEG_Z, -2.89, 2.89, 12, 500, 0.045, 0.6),
    ]),
    hand_at_m=(0, 0, -0.107),
    hand_euler=(0, 0, 0.785),
    home=(0.0, -0.142, 0.0, -2.520, 0.0, 2.378, 0.785),
)  # fmt: skip

ARM6 = Arm(
    model="arm6_sim",
    joints=_joints([
        ("shoulder_pan", (0, 0, 0.1625), _Z, -3.14, 3.14, 150, 3000, 0.060, 3.5),
        ("shoulder_lift", (0, 0.138, 0), _Y, -2.0, 2.0, 150, 3000, 0.060, 4.0),
        ("elbow", (0, -0.131, 0.425), _Y, -2.8, 2.8, 150, 2000, 0.050, 2.5),
        ("wrist_1", (0, 0, 0.392), _Y, -3.14, 3.14, 28, 500, 0.042, 1.2),
        ("wrist_2", (0, 0.127, 0), _Z, -3.14, 3.14, 28, 500, 0.042, 1.2),
        ("wrist_3", (0, 0, 0.100), _Y, -3.14, 3.14, 28, 500, 0.042, 0.4),
    ]),
    hand_at_m=(0, 0.100, 0),
    hand_euler=(1.5708, 0, 0),
    home=(-0.302, -0.070, 2.052, -0.411, -1.571, -1.873),
)  # fmt: skip


def add_arm(parent: Element, arm: Arm, tool: Tool) -> None:
    """Adds the arm's bodies and its tool to a worldbody."""
    _add_link(parent, (0, 0, 0), arm.joints[0].at_m, radius_m=0.07, mass_kg=4.0)
    for i, joint in enumerate(arm.joints):
        parent = SubElement(parent, "body", name=f"link_{joint.name}", pos=text(joint.at_m), gravcomp="1")
        SubElement(
            parent, "joint", name=joint.name, axis=text(joint.axis), range=f"{joint.low} {joint.high}", armature="0.2"
        )
        after = arm.joints[i + 1].at_m if i + 1 < len(arm.joints) else arm.hand_at_m
        _add_link(parent, (0, 0, 0), after, radius_m=joint.radius_m, mass_kg=joint.mass_kg)
    hand = SubElement(
        parent, "body", name="hand", pos=text(arm.hand_at_m), euler=text(arm.hand_euler), gravcomp="1"
    )  # fmt: skip
    add_tool(hand, tool)


def add_motors(actuators: Element, arm: Arm) -> None:
    """Adds one position servo per joint, with a bounded torque. Its damping is the world's, once inertia is known."""
    for joint in arm.joints:
        SubElement(
            actuators, "position", name=joint.name, joint=joint.name, kp=str(joint.stiffness),
            inheritrange="1", forcerange=f"{-joint.torque_nm} {joint.torque_nm}",
        )  # fmt: skip


def _add_link(body: Element, start: Vector, end: Vector, *, radius_m: float, mass_kg: float) -> None:
    SubElement(body, "geom", type="sphere", size=str(radius_m * 1.1), mass=str(mass_kg / 2), rgba=BLUE)
    if end != start:
        SubElement(
            body, "geom", type="capsule", fromto=text((*start, *end)), size=str(radius_m * 0.8),
            mass=str(mass_kg / 2), rgba=WHITE,
        )  # fmt: skip
