"""Kits: the contracts of Robot, Camera, Teleop and Task as programs. Each raises AssertionError with one sentence.

A new driver's test is one line: `check_robot(lambda: MyRobot(config, clock=SystemClock()))`. Fakes and real hardware
run the same lines; `harmless` is a command that the robot may really carry out where it stands, `motion` some that move
it: only then is it held that speeds are speeds, that nothing is filled in, and that a halt halts.
"""

import contextlib
import math
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from hal.camera import Camera, Frame
from hal.motion_kit import Motion as Motion
from hal.motion_kit import check_motion
from hal.robot import OnSilence, Robot, RobotSpec, RobotState
from hal.task import Judgement, Task
from hal.teleop import Teleop, TeleopReading
from user_rl.clock import Clock, SystemClock
from user_rl.errors import HardwareError, RobotUnreachable, SpecError
from user_rl.specs import Array, Box

T = TypeVar("T")

NAME_BYTES = 48  # what a row has for a task's name
_POLL_S = 0.5  # generous: a device that waits for a person waits for seconds
_READ_S = 0.02  # a read may always take so long, also of a robot with a shorter period: machines are busy
_READS = 5


def check_robot(
    make: Callable[[], Robot], *, harmless: Array | None = None, motion: Motion | None = None,
    clock: Clock | None = None,
) -> None:  # fmt: skip
    """Opens, reads, commands, moves, halts, closes, opens again. `harmless` [C]: the command nearest to zero if not
    given; `clock`: the robot's own, which paces `motion` (real time if not given)."""
    robot = make()
    _check_robot_spec(robot.spec)
    target = robot.spec.command.clip(np.zeros(robot.spec.command.shape)) if harmless is None else harmless
    _check_closed_robot(robot, target, "before open")
    try:
        for life in ("after open", "after a second open"):
            robot.open()
            _check_readings(robot, life)
            _check_commands(robot, target, life)
            if motion is not None:
                check_motion(robot, motion, clock or SystemClock(), _require)
            _twice(robot.halt, "halt")
            _twice(robot.close, "close")
            _check_closed_robot(robot, target, "after close")
    finally:
        _let_go(robot.halt, robot.close)


def check_camera(make: Callable[[], Camera]) -> None:
    """Opens, reads frames, closes and opens again."""
    camera = make()
    name = camera.spec.name
    _require(name.startswith("observation.images."), f"a camera's spec is named {name}, not observation.images.NAME")
    _refuses(HardwareError, camera.read, "read before open")
    try:
        for _ in range(2):
            camera.open()
            frames = [_checked_frame(camera) for _ in range(3)]
            _rising([f.stamp_s for f, _ in frames], "frames")
            for frame, copy in frames:
                _require(np.array_equal(frame.pixels, copy), "a later read overwrites the pixels of an earlier frame")
            _twice(camera.close, "close")
            _refuses(HardwareError, camera.read, "read after close")
    finally:
        _let_go(camera.close)


def check_teleop(make: Callable[[], Teleop], *, polls: int = 20) -> None:
    """Opens, polls a policy's episode and a demonstration, closes and opens again."""
    teleop = make()
    _check_command_box(teleop.action, "a teleop's action")
    _refuses(HardwareError, teleop.poll, "poll before open")
    try:
        for demonstrate in (False, True):
            teleop.open()
            teleop.begin(demonstrate=demonstrate)
            readings = [_checked_poll(teleop) for _ in range(polls)]
            _rising([r.stamp_s for r in readings], "readings")
            _twice(teleop.close, "close")
            _refuses(HardwareError, teleop.poll, "poll after close")
    finally:
        _let_go(teleop.close)


def check_task(make: Callable[[], tuple[Robot, Task]], *, exact: bool = True, seeds: int = 5) -> None:
    """Resets and judges. `make` gives the task and its robot, closed; `exact`: equal seeds start bit-identically."""
    robot, task = make()
    _require(0 < len(task.name.encode()) <= NAME_BYTES, f"task.name {task.name!r} is not 1 to {NAME_BYTES} bytes")
    _require(task.max_steps > 0, f"task.max_steps is {task.max_steps}, not positive")
    robot.open()
    try:
        starts = [_start(robot, task, seed) for seed in range(seeds)]
        if exact:
            again = [_start(robot, task, seed) for seed in reversed(range(seeds))][::-1]
            for seed, (a, b) in enumerate(zip(starts, again, strict=True)):
                _require(np.array_equal(a, b), f"reset({seed}) twice gives two different starts: {a} and {b}")
        _require(any(not np.array_equal(starts[0], s) for s in starts[1:]), "every seed gives the same start")
    finally:
        _let_go(robot.halt, robot.close)


def _check_robot_spec(spec: RobotSpec) -> None:
    _require(bool(spec.model), "spec.model is empty")
    _require(math.isfinite(spec.rate_hz) and spec.rate_hz > 0, f"spec.rate_hz is {spec.rate_hz}, not positive")
    _check_command_box(spec.command, "spec.command")
    _require(spec.state.name == "observation.state", f"spec.state is named {spec.state.name}, not observation.state")
    _require(len(set(spec.state.names)) == len(spec.state.names) > 0, "spec.state's names are not unique")
    named = bool(spec.halt_command)
    _require(
        named == (spec.on_silence is OnSilence.OUT_OF_BAND),
        f"spec.on_silence is {spec.on_silence} and halt_command is {spec.halt_command}: one contradicts the other",
    )


def _check_command_box(command: Box, what: str) -> None:
    _require(len(set(command.names)) == len(command.names) > 0, f"{what}'s names are not unique")
    for name, low, high in zip(command.names, command.low, command.high, strict=True):
        _require(
            math.isfinite(low) and math.isfinite(high) and low < high, f"{what}.{name} is bounded by {low}, {high}"
        )


def _check_closed_robot(robot: Robot, target: Array, when: str) -> None:
    _refuses(RobotUnreachable, robot.read, f"read {when}")
    _refuses(RobotUnreachable, lambda: robot.command(target), f"command {when}")
    _twice(robot.halt, f"halt {when}")


def _check_readings(robot: Robot, when: str) -> None:
    states, took_s = [], []
    for _ in range(_READS):
        start_s = time.monotonic()
        states.append(_checked_read(robot, when))
        took_s.append(time.monotonic() - start_s)
    _rising([s.stamp_s for s in states], "readings")
    allowed_s = max(1.0 / robot.spec.rate_hz, _READ_S)
    _require(
        min(took_s) < allowed_s, f"every read {when} blocks for {min(took_s):.2g} s or more, allowed {allowed_s:.2g} s"
    )


def _checked_read(robot: Robot, when: str) -> RobotState:
    state = robot.read()
    try:
        robot.spec.state.check(state.values)
    except SpecError as error:
        raise AssertionError(f"a reading {when} breaks its spec: {error}") from error
    return state


def _check_commands(robot: Robot, target: Array, when: str) -> None:
    asked, before = target.copy(), _checked_read(robot, when)
    kept = before.values.copy()
    for _ in range(3):
        sent = robot.command(asked)
        _check_sent(robot, sent, f"command {when}")
        _checked_read(robot, when)
    _require(np.array_equal(asked, target), f"command {when} changes the caller's array")
    _require(np.array_equal(before.values, kept), f"command {when} overwrites the values of an earlier reading")
    for wrong, what in ((np.full_like(target, np.nan), "NaN"), (np.append(target, target[:1]), "one element too many")):
        _refuses(SpecError, lambda wrong=wrong: robot.command(wrong), f"command of {what}")  # type: ignore[misc]
    try:
        beyond = robot.command((np.asarray(robot.spec.command.high) * 2 + 1).astype(np.float32))
    except SpecError:
        return
    _check_sent(robot, beyond, "command beyond its bounds")


def _check_sent(robot: Robot, sent: Array, what: str) -> None:
    try:
        robot.spec.command.check(sent)
    except SpecError as error:
        raise AssertionError(f"what {what} returns as sent breaks spec.command: {error}") from error


def _checked_frame(camera: Camera) -> tuple[Frame, Array]:
    frame = camera.read()
    try:
        camera.spec.check(frame.pixels)
    except SpecError as error:
        raise AssertionError(f"a frame breaks its spec: {error}") from error
    return frame, frame.pixels.copy()


def _checked_poll(teleop: Teleop) -> TeleopReading:
    start_s = time.monotonic()
    reading = teleop.poll()
    took_s = time.monotonic() - start_s
    _require(took_s < _POLL_S, f"poll blocks for {took_s:.2g} s, allowed {_POLL_S} s")
    _require(not (reading.is_intervention and reading.action is None), "an intervention without an action")
    held = reading.is_enabled or not reading.is_intervention
    _require(held, "an intervention while the enabling device is not held")
    if reading.action is not None:
        try:
            teleop.action.check(reading.action)
        except SpecError as error:
            raise AssertionError(f"the operator's action breaks its spec: {error}") from error
    return reading


def _start(robot: Robot, task: Task, seed: int) -> Array:
    """The state right after reset(seed), and a judged step from there."""
    task.reset(seed)
    start = robot.read().values.copy()
    robot.command(robot.spec.command.clip(np.zeros(robot.spec.command.shape)))
    _check_judgement(task.judge())
    return start


def _check_judgement(judgement: Judgement) -> None:
    reward = judgement.reward
    _require(isinstance(reward, float) and math.isfinite(reward), f"a reward of {reward!r} is not a finite float")
    for name in ("done", "success", "truncated"):
        value = getattr(judgement, name)
        _require(isinstance(value, bool), f"judgement.{name} is of {type(value)}, not a bool")
    _require(not (judgement.done and judgement.truncated), "a judgement is both done and truncated")


def _let_go(*calls: Callable[[], None]) -> None:
    """Leaves nothing moving or open; what goes wrong here would hide what the kit has found."""
    for call in calls:
        with contextlib.suppress(HardwareError):
            call()


def _refuses(error: type[Exception], call: Callable[[], object], what: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(f"{what} does not raise {error.__name__}")


def _twice(call: Callable[[], None], what: str) -> None:
    for time_ in ("", " a second time"):
        try:
            call()
        except HardwareError as error:
            raise AssertionError(f"{what}{time_} raises {type(error).__name__}: {error}") from error


def _rising(stamps_s: list[float], what: str) -> None:
    _require(all(math.isfinite(s) for s in stamps_s), f"the stamps of {what} are not finite: {stamps_s}")
    _require(stamps_s == sorted(stamps_s), f"the stamps of {what} go backwards: {stamps_s}")


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise AssertionError(sentence)
