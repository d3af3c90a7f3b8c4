"""Several robots as one: two arms, an arm and a hand, an arm and a gripper.

`robot=composite 'robot.parts={left: {name: so101, ...}, gripper: {name: robotiq, ...}}'`. Elements are then called
`left.shoulder_pan.position`; state and command stand in the parts' order. The rate is the slowest part's, a reading is
as old as its oldest part, and an error names its part. Parts are read one after the other: together they must answer
within the period. When one of them fails in a command, all are halted. What silence does to the composite is the worst
of what it does to its parts; where several must be halted out of band, `python -m hal.composite halt COMMAND...` runs
all their commands at once, each a JSON list.
"""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hal.robot import OnSilence, Robot, RobotSpec, RobotState
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError, HardwareError, RobotUnreachable, SpecError
from user_rl.specs import Array, Box

log = logging.getLogger(__name__)

_FROM_BEST = (OnSilence.STOPS, OnSilence.OUT_OF_BAND, OnSilence.NONE)
_HALTS_S = 8.0  # for all commands together: less than the daemon waits for one


@dataclass(frozen=True, kw_only=True)
class CompositeConfig:
    """The parts, each a tree as `robot` takes it, by the name that its elements begin with."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Composite:
    """See hal.robot.Robot."""

    def __init__(self, parts: Mapping[str, Robot]) -> None:
        if not parts or any(not name or "." in name for name in parts):
            raise ConfigError(
                f"robot.parts = {list(parts)}, allowed one or more names without a dot; "
                "give robot.parts={left: {name: ...}, right: {name: ...}}"
            )
        self.parts = dict(parts)
        ends = np.cumsum([len(part.spec.command.names) for part in self.parts.values()])
        self._ends = [int(end) for end in ends[:-1]]
        self._spec = _spec(self.parts)
        self._is_open = False

    @property
    def spec(self) -> RobotSpec:
        return self._spec

    def open(self) -> None:
        with ExitStack() as undo:
            for name, part in self.parts.items():
                with _named(name):
                    part.open()
                undo.callback(part.close)
            undo.pop_all()
        self._is_open = True

    def read(self) -> RobotState:
        states = []
        for name, part in self.parts.items():
            with _named(name):
                states.append(part.read())
        return RobotState(
            stamp_s=min(state.stamp_s for state in states), values=np.concatenate([state.values for state in states])
        )

    def command(self, target: Array) -> Array:
        if not self._is_open:
            raise RobotUnreachable(f"{self._spec.model} is not open; call open() first")
        self._spec.command.check(target)  # whole: no part is sent anything when another's share is wrong
        sent = []
        try:
            for (name, part), share in zip(self.parts.items(), np.split(target, self._ends), strict=True):
                with _named(name):
                    sent.append(part.command(share))
        except HardwareError:
            self._halt_after_an_error()
            raise
        return np.concatenate(sent)

    def halt(self) -> None:
        self._each(lambda part: part.halt())

    def close(self) -> None:
        self._is_open = False
        self._each(lambda part: part.close())

    def _each(self, call: Callable[[Robot], None]) -> None:
        """Goes through all parts, whatever one of them says; then raises what was said first."""
        errors = []
        for name, part in self.parts.items():
            try:
                with _named(name):
                    call(part)
            except HardwareError as error:
                errors.append(error)
        for later in errors[1:]:
            log.error("%s", later)
        if errors:
            raise errors[0]

    def _halt_after_an_error(self) -> None:
        try:
            self.halt()
        except HardwareError as error:
            log.error("not all parts could be halted: %s", error)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Lets an error begin with the part's name; its class stays."""
    try:
        yield
    except (HardwareError, SpecError) as error:
        raise type(error)(f"{name}: {error}") from error


def _spec(parts: Mapping[str, Robot]) -> RobotSpec:
    specs = {name: part.spec for name, part in parts.items()}
    on_silence = max((spec.on_silence for spec in specs.values()), key=_FROM_BEST.index)
    halts = [spec.halt_command for spec in specs.values() if spec.halt_command]
    return RobotSpec(
        model="+".join(spec.model for spec in specs.values()),
        state=_joined("observation.state", {name: spec.state for name, spec in specs.items()}),
        command=_joined("action", {name: spec.command for name, spec in specs.items()}),
        rate_hz=min(spec.rate_hz for spec in specs.values()),
        on_silence=on_silence,
        halt_command=_halt_command(halts) if on_silence is OnSilence.OUT_OF_BAND else (),
    )


def _joined(name: str, boxes: Mapping[str, Box]) -> Box:
    return Box(
        name=name,
        names=tuple(f"{part}.{element}" for part, box in boxes.items() for element in box.names),
        units=tuple(unit for box in boxes.values() for unit in box.units),
        low=tuple(low for box in boxes.values() for low in box.low),
        high=tuple(high for box in boxes.values() for high in box.high),
    )


def _halt_command(halts: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    if len(halts) == 1:
        return halts[0]
    return (sys.executable, "-m", "hal.composite", "halt", *(json.dumps(halt) for halt in halts))


def run_all(commands: Sequence[Sequence[str]], *, wait_s: float = _HALTS_S) -> list[str]:
    """Runs all commands at once; what went wrong, one line each. A command that does not start keeps none from it."""
    children, wrong = [], []
    for command in commands:
        try:
            children.append((command, subprocess.Popen(command)))
        except OSError as error:
            wrong.append(f"{' '.join(command)}: {error}")
    clock = SystemClock()
    deadline_s = clock.now_s() + wait_s
    for command, child in children:
        try:
            if child.wait(max(0.0, deadline_s - clock.now_s())):
                wrong.append(f"{' '.join(command)}: it ended with code {child.returncode}")
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            wrong.append(f"{' '.join(command)}: it had not ended after {wait_s:.3g} s")
    return wrong


def main(arguments: list[str]) -> None:
    """What the combined halt command runs."""
    if len(arguments) < 2 or arguments[0] != "halt":
        sys.exit("usage: python -m hal.composite halt COMMAND..., each a JSON list of words")
    if wrong := run_all([[str(word) for word in json.loads(command)] for command in arguments[1:]]):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
