"""What an arm holds or ends in. A task's config names its `tool`, and the arm is made with it.

The site `tip` at the tool's end is what is driven. Closed fingers that hold a tool have no joints.
"""

from collections.abc import Callable
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement

from hal.sim.shapes import DARK, ORANGE, STEEL, TOUCHES, WHITE, Vector, add_ball, add_box, add_rod, text

PEG_WIDTH_M = 0.020  # square, so that yaw matters
PEG_LENGTH_M = 0.060  # below the fingers
PRESSER_RADIUS_M = 0.008
PIN_RADIUS_M, PIN_LENGTH_M, PIN_APART_M = 0.0025, 0.018, 0.010  # ends are round; from the middle to each pin
_FINGERS_END_M = -0.11  # in the hand's frame
_HELD_M = 0.04  # of a tool, between the fingers


class Tool(StrEnum):
    """What is in the hand."""

    PEG = "peg"
    PRESSER = "presser"  # a rod with a round end
    CHARGER = "charger"  # a plug with two pins side by side along the hand's y


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
    radius, end_m = PRESSER_RADIUS_M, _FINGERS_END_M - PEG_LENGTH_M
    _add_closed_fingers(hand, radius)
    add_rod(hand, (0, 0, _FINGERS_END_M + _HELD_M), (0, 0, end_m + radius), radius, ORANGE, mass="0.1")
    add_ball(hand, (0, 0, end_m + radius), radius, ORANGE, mass="0.01", **TOUCHES)
    _add_tip(hand, (0, 0, end_m))


def _add_charger(hand: Element) -> None:
    half_m, end_m = 0.010, _FINGERS_END_M - PEG_LENGTH_M
    _add_closed_fingers(hand, half_m)
    foot_m = end_m + PIN_LENGTH_M
    neck_half_m = (_HELD_M + 0.02) / 2
    add_box(hand, (0, 0, _FINGERS_END_M + _HELD_M - neck_half_m), (0.008, half_m, neck_half_m), WHITE, mass="0.05")
    add_box(hand, (0, 0, foot_m + 0.012), (0.012, 0.018, 0.012), ORANGE, mass="0.05")
    for side in (-1, 1):
        y, end = side * PIN_APART_M, end_m + PIN_RADIUS_M
        add_rod(hand, (0, y, foot_m), (0, y, end), PIN_RADIUS_M, STEEL, mass="0.005", name=f"pin{side}", **TOUCHES)
    _add_tip(hand, (0, 0, end_m))


def _add_closed_fingers(hand: Element, half_m: float) -> None:
    for side in (-1, 1):
        add_box(hand, (0, side * (half_m + 0.006), -0.085), (0.008, 0.006, 0.025), DARK, mass="0.05")


def _add_tip(body: Element, at_m: Vector) -> None:
    SubElement(body, "site", name="tip", pos=text(at_m), quat="0 1 0 0", size="0.002", group="5")


_TOOLS: dict[Tool, Callable[[Element], None]] = {
    Tool.PEG: _add_peg,
    Tool.PRESSER: _add_presser,
    Tool.CHARGER: _add_charger,
}
