"""Axes: what a command's element moves, and which element of the state measures that.

The names say it: `joint1.target` (where it shall be) or `joint1.delta` (by how much) move the axis `joint1`, which
`joint1.position` and `joint1.velocity` measure; `tip.delta.x` moves `tip.x`, which `tip.x` and `tip.velocity.x`
measure. LeRobot's `elbow_flex.pos` is both: what is asked of the axis `elbow_flex`, and what is measured of it.
"""

from enum import Enum

from user_rl.specs import Box


class Way(Enum):
    """How a command's element moves its axis."""

    TARGET = "target"  # where it shall be
    DELTA = "delta"  # by how much it shall move


def axis_of(name: str) -> tuple[str, Way | None]:
    """The axis that a command's element moves, and how; the name itself and None for an element of another kind."""
    parts = name.split(".")
    for way in Way:
        if way.value in parts:
            return ".".join(part for part in parts if part != way.value), way
    return (name.removesuffix(".pos"), Way.TARGET) if name.endswith(".pos") else (name, None)


def position_of(axis: str, state: Box) -> int | None:
    """The element of the state that measures where the axis is."""
    return _find(state, f"{axis}.position", axis, f"{axis}.pos")


def velocity_of(axis: str, state: Box) -> int | None:
    """The element of the state that measures how fast the axis moves."""
    stem, _, last = axis.rpartition(".")
    return _find(state, f"{axis}.velocity", f"{stem}.velocity.{last}", f"{axis}.vel")


def control_modes(command: Box) -> tuple[str, ...]:
    """What a command may be, as requests name it: joint_target, joint_delta, tip_target, tip_delta, or other."""
    return tuple(sorted({_mode(*axis_of(name)) for name in command.names}))


def _mode(axis: str, way: Way | None) -> str:
    if way is None:
        return "other"
    return f"{'tip' if axis.startswith('tip.') else 'joint'}_{way.value}"


def _find(state: Box, *names: str) -> int | None:
    return next((state.names.index(name) for name in names if name in state.names), None)
