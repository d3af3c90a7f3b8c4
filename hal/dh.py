"""Arms as Denavit-Hartenberg rows, and the MJCF of one: joints and a tip, without masses, for `MinkKinematics`.

Each row is Craig's form: turn by `twist_rad` about x and go `along_m` there, then turn by the joint about z and go
`up_m` there. Sources: Universal Robots' published parameters (whose rows have length and twist one joint earlier), and
Franka Robotics' FCI documentation.
"""

from dataclasses import dataclass
from math import cos, pi, sin
from xml.etree.ElementTree import Element, SubElement, tostring


@dataclass(frozen=True, kw_only=True)
class Link:
    """One row, and the joint's range."""

    name: str
    along_m: float
    twist_rad: float
    up_m: float
    low: float  # rad
    high: float


def mjcf(links: tuple[Link, ...], *, tip_m: float, tip_rad: float = 0.0) -> str:
    """The chain with a site `tip`: `tip_m` along the last joint's axis, turned by `tip_rad` about it."""
    root = Element("mujoco")
    SubElement(root, "compiler", angle="radian")
    body = SubElement(root, "worldbody")
    for link in links:
        at = (link.along_m, -sin(link.twist_rad) * link.up_m, cos(link.twist_rad) * link.up_m)
        turn = (cos(link.twist_rad / 2), sin(link.twist_rad / 2), 0.0, 0.0)
        body = SubElement(body, "body", name=link.name, pos=_text(*at), quat=_text(*turn))
        SubElement(body, "inertial", pos="0 0 0", mass="1", diaginertia="1 1 1")  # MuJoCo wants some; nothing falls
        SubElement(body, "joint", name=link.name, axis="0 0 1", range=_text(link.low, link.high), limited="true")
    turn = (cos(tip_rad / 2), 0.0, 0.0, sin(tip_rad / 2))
    SubElement(body, "site", name="tip", pos=_text(0, 0, tip_m), quat=_text(*turn))
    return tostring(root, encoding="unicode")


def _text(*numbers: float) -> str:
    return " ".join(f"{x:.9g}" for x in numbers)


def _ur(upper_m: float, fore_m: float, d1_m: float, d4_m: float, d5_m: float, d6_m: float) -> tuple[Link, ...]:
    rows = (
        ("shoulder_pan", 0.0, 0.0, d1_m), ("shoulder_lift", 0.0, pi / 2, 0.0), ("elbow", -upper_m, 0.0, 0.0),
        ("wrist_1", -fore_m, 0.0, d4_m), ("wrist_2", 0.0, pi / 2, d5_m), ("wrist_3", 0.0, -pi / 2, d6_m),
    )  # fmt: skip
    return tuple(
        Link(name=name, along_m=along, twist_rad=twist, up_m=up, low=-2 * pi, high=2 * pi)
        for name, along, twist, up in rows
    )


UR_HOME = (pi, -pi / 2, pi / 2, -pi / 2, -pi / 2, -pi / 2)  # rad: in front of the base, the tool down, its yaw 0
UR_LINKS = {
    "ur3e": _ur(0.24355, 0.2132, 0.15185, 0.13105, 0.08535, 0.0921),
    "ur5e": _ur(0.425, 0.3922, 0.1625, 0.1333, 0.0997, 0.0996),
    "ur10e": _ur(0.6127, 0.57155, 0.1807, 0.17415, 0.11985, 0.11655),
    "ur16e": _ur(0.4784, 0.36, 0.1807, 0.17415, 0.11985, 0.11655),
}

FRANKA_FLANGE_M = 0.107
FRANKA_HAND_RAD = -pi / 4  # how Franka's own hand is mounted on the flange
FRANKA_HOME = (0.0, -pi / 4, 0.0, -3 * pi / 4, 0.0, pi / 2, pi / 4)  # rad: the tool down, the hand's yaw 0
FRANKA_LINKS = tuple(
    Link(name=f"joint{i + 1}", along_m=along, twist_rad=twist, up_m=up, low=low, high=high)
    for i, (along, twist, up, low, high) in enumerate([
        (0.0, 0.0, 0.333, -2.7437, 2.7437), (0.0, -pi / 2, 0.0, -1.7628, 1.7628), (0.0, pi / 2, 0.316, -2.8973, 2.8973),
        (0.0825, pi / 2, 0.0, -3.0421, -0.1518), (-0.0825, -pi / 2, 0.384, -2.8065, 2.8065),
        (0.0, pi / 2, 0.0, 0.5445, 3.7525), (0.088, pi / 2, 0.0, -2.8973, 2.8973),
    ])
)  # fmt: skip
