"""What an arm holds or ends in. A task's config names its `tool`, and the arm is made with it.

The site `tip` at the tool's end is what is driven. Closed fingers that hold a tool have no joints.
"""

from collections.abc import Callable
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement

from hal.sim.shapes import BLACK, DARK, ORANGE, STEEL, TOUCHES, WHITE, Vector, add_ball, add_box, add_rod, text

PEG_WIDTH_M = 0.020  # square, so that yaw matters
PEG_LENGTH_M = 0.060  # below the fingers
PRESSER_RADIUS_M = 0.008
PIN_RADIUS_M, PIN_LENGTH_M, PIN_APART_M = 0.0025, 0.018, 0.010  # ends are round; from the middle to each pin
OPENING_M = 0.08  # of the gripper
PADDLE_M = (0.030, 0.004, 0.025)  # half its sizes
_FINGERS_END_M = -0.11  # in the hand's frame
_HARD = "0.005 1"  # thin pins and pads must not sink into what they press on
_BRASS = "0.6 0.005 0.0001"  # a pin that is pressed on the face of a socket does not slide off it
_RUBBER = "1.2 0.02 0.0005"
_HELD_M = 0.04  # of a tool, between the fingers
_TIP_M = _FINGERS_END_M - PEG_LENGTH_M  # of every tool, so that one kinematic model of an arm serves them all


class Tool(StrEnum):
    """What is in the hand."""

    PEG = "peg"
    PRESSER = "presser"  # a rod with a round end
    CHARGER = "charger"  # a plug with two pins side by side along the hand's y
    GRIPPER = "gripper"  # nothing: two fingers that open and close along the hand's y
    PADDLE = "paddle"  # a board across the hand's y, to sweep with


def add_tool(hand: Element, tool: Tool) -> None:
    """Adds the palm, the fingers and the tool."""
    add_box(hand, (0, 0, -0.03), (0.025, 0.06, 0.03), WHITE, mass="0.5")
    _TOOLS[tool](hand)


def _add_peg(hand: Element) -> None:
    _add_closed_fingers(hand, PEG_WIDTH_M / 2)
    peg_m = PEG_LENGTH_M + _HELD_M
    peg = SubElement(hand, "body", name="peg", pos=text((0, 0, _FINGERS_END_M + _HELD_M - peg_m / 2)), gravcomp="1")
    half = PEG_WIDTH_M / 2
    add_box(peg, (0, 0, 0), (half, half, peg_m / 2), ORANGE, mass="0.1", name="peg", **TOUCHES)
    _add_tip(peg, (0, 0, -peg_m / 2))


def _add_presser(hand: Element) -> None:
    radius = PRESSER_RADIUS_M
    _add_closed_fingers(hand, radius)
    add_rod(hand, (0, 0, _FINGERS_END_M + _HELD_M), (0, 0, _TIP_M + radius), radius, ORANGE, mass="0.1")
    add_ball(hand, (0, 0, _TIP_M + radius), radius, ORANGE, mass="0.01", **TOUCHES)
    _add_tip(hand, (0, 0, _TIP_M))


def _add_charger(hand: Element) -> None:
    half_m = 0.010
    _add_closed_fingers(hand, half_m)
    foot_m = _TIP_M + PIN_LENGTH_M
    neck_half_m = (_HELD_M + 0.02) / 2
    add_box(hand, (0, 0, _FINGERS_END_M + _HELD_M - neck_half_m), (0.008, half_m, neck_half_m), WHITE, mass="0.05")
    add_box(hand, (0, 0, foot_m + 0.012), (0.012, 0.018, 0.012), ORANGE, mass="0.05")
    for side in (-1, 1):
        y, end = side * PIN_APART_M, _TIP_M + PIN_RADIUS_M
        pin = {"mass": "0.005", "priority": "1", "solref": _HARD, "friction": _BRASS, "name": f"pin{side}"} | TOUCHES
        add_rod(hand, (0, y, foot_m), (0, y, end), PIN_RADIUS_M, STEEL, **pin)
    _add_tip(hand, (0, 0, _TIP_M))


def _add_gripper(hand: Element) -> None:
    """Fingers on slides, their inner faces apart by the sum of both joints; the joints start open."""
    for side, name in ((-1, "right"), (1, "left")):
        y = side * OPENING_M / 2
        finger = SubElement(hand, "body", name=f"finger_{name}", pos=text((0, y, 0)), gravcomp="1")
        SubElement(
            finger, "joint", name=f"finger_{name}", type="slide", axis=text((0, side, 0)), armature="0.15",
            range=f"0 {OPENING_M / 2}", ref=str(OPENING_M / 2),
        )  # fmt: skip
        add_box(finger, (0, side * 0.006, -0.095), (0.008, 0.006, 0.035), DARK, mass="0.03")
        pad = {
            "mass": "0.02",
            "friction": _RUBBER,
            "priority": "1",
            "solref": "0.006 1",
            "name": f"pad_{name}",
        } | TOUCHES
        add_box(finger, (0, side * 0.004, _TIP_M + 0.02), (0.009, 0.004, 0.020), BLACK, **pad)
    _add_tip(hand, (0, 0, _TIP_M))


def add_fingers_motors(actuators: Element, tool: Tool) -> None:
    """Adds one position servo per finger that moves, as `add_motors` of the arm does per joint."""
    if tool is Tool.GRIPPER:
        for name in ("finger_right", "finger_left"):
            SubElement(actuators, "position", name=name, joint=name, kp="500", inheritrange="1", forcerange="-12 12")


def _add_paddle(hand: Element) -> None:
    _add_closed_fingers(hand, PADDLE_M[1])
    stick_m = (_HELD_M + PEG_LENGTH_M - 2 * PADDLE_M[2]) / 2
    add_box(hand, (0, 0, _FINGERS_END_M + _HELD_M - stick_m), (0.008, PADDLE_M[1], stick_m), ORANGE, mass="0.05")
    add_box(hand, (0, 0, _TIP_M + PADDLE_M[2]), PADDLE_M, ORANGE, mass="0.05", name="paddle", **TOUCHES)
    _add_tip(hand, (0, 0, _TIP_M))


def _add_closed_fingers(hand: Element, half_m: float) -> None:
    for side in (-1, 1):
        add_box(hand, (0, side * (half_m + 0.006), -0.085), (0.008, 0.006, 0.025), DARK, mass="0.05")


def _add_tip(body: Element, at_m: Vector) -> None:
    SubElement(body, "site", name="tip", pos=text(at_m), quat="0 1 0 0", size="0.002", group="5")


_TOOLS: dict[Tool, Callable[[Element], None]] = {
    Tool.PEG: _add_peg,
    Tool.PRESSER: _add_presser,
    Tool.CHARGER: _add_charger,
    Tool.GRIPPER: _add_gripper,
    Tool.PADDLE: _add_paddle,
}
