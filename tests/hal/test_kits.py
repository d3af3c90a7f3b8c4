"""Every implementation passes its kit; every check of a kit notices what it is there for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from hal.camera import Camera, Frame
from hal.kits import check_camera, check_robot, check_task, check_teleop
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence, Robot, RobotSpec, RobotState
from hal.task import Judgement, Task
from hal.teleop import Teleop, TeleopReading
from hal.testing import (
    CoastingConfig,
    CoastingRobot,
    FakeCamera,
    FakeRobot,
    FakeTask,
    FakeTaskConfig,
    FakeTeleop,
    FakeTeleopConfig,
)
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError, RobotFault
from user_rl.specs import Array, Box, Image, box

CLOCK = FakeClock()


def cell_of(robot: str, task: str, **more: object) -> CellConfig:
    options = {"id": "Pendulum-v1"} if robot == "gymnasium" else {}
    return CellConfig(robot={"name": robot, **options}, task={"name": task}, **more)  # type: ignore[arg-type]


CELLS = {
    "panda": cell_of("panda_sim", "peg_insertion"),
    "arm6": cell_of("arm6_sim", "peg_insertion"),
    "gymnasium": cell_of("gymnasium", "gymnasium"),
    "fake": cell_of("fake", "fake"),
}


@pytest.mark.parametrize("name", CELLS)
def test_every_robot_keeps_the_contract_bare_and_guarded(name: str) -> None:
    guarded = make_cell(CELLS[name], name="a", clock=CLOCK, seed=1).robot
    check_robot(lambda: guarded)
    check_robot(lambda: guarded.robot)  # type: ignore[attr-defined]


def test_joint_space_keeps_the_contract() -> None:
    hand = make_cell(CELLS["panda"], name="a", clock=CLOCK, seed=1).robot.robot  # type: ignore[attr-defined]
    check_robot(lambda: hand.robot, harmless=np.array([0, -0.1, 0, -2.5, 0, 2.4, 0.8], np.float32))


def test_the_coasting_robot_keeps_the_contract(tmp_path: Path) -> None:
    check_robot(lambda: CoastingRobot(CoastingConfig(path=str(tmp_path / "motion"))))


@pytest.mark.parametrize("name", CELLS)
def test_every_task_keeps_the_contract(name: str) -> None:
    cell = make_cell(CELLS[name], name="a", clock=CLOCK, seed=1)
    check_task(lambda: (cell.robot, cell.task))


def test_the_fake_camera_keeps_the_contract() -> None:
    check_camera(lambda: FakeCamera(clock=CLOCK))


@pytest.mark.parametrize("step", [None, 2])
def test_the_fake_teleop_keeps_the_contract(step: int | None) -> None:
    robot = FakeRobot(clock=CLOCK)
    robot.open()
    check_teleop(lambda: FakeTeleop(FakeTeleopConfig(intervene_at_step=step), robot=robot, clock=CLOCK))


# ---- each check against an implementation that breaks it


class Broken(FakeRobot):
    """A robot that breaks one promise."""

    def __init__(self, **spec: object) -> None:
        super().__init__(clock=FakeClock())
        self._spec = replace(self._spec, **spec)  # type: ignore[arg-type]


class ReadsWhenClosed(Broken):
    def read(self) -> RobotState:
        return RobotState(stamp_s=0.0, values=np.zeros(2, np.float32))


class CommandedWhenClosed(Broken):
    def command(self, target: Array) -> Array:
        self._spec.command.check(target)
        return target


class CannotHaltClosed(Broken):
    def halt(self) -> None:
        self._check()


class CannotHaltTwice(Broken):
    def halt(self) -> None:
        super().halt()
        if self.halts > 2:
            raise RobotFault("halted already")


class CannotCloseTwice(Broken):
    def close(self) -> None:
        if not self._is_open:
            raise HardwareError("closed already")
        super().close()


class ReadsBeyondItsSpec(Broken):
    def read(self) -> RobotState:
        return RobotState(stamp_s=super().read().stamp_s, values=np.full(2, 9.0, np.float32))


class StampsBackwards(Broken):
    def read(self) -> RobotState:
        self.clock.advance(-1.0)  # type: ignore[attr-defined]
        return super().read()


class StampsNotANumber(Broken):
    def read(self) -> RobotState:
        return RobotState(stamp_s=float("nan"), values=super().read().values)


class SharesItsState(Broken):
    shared = np.zeros(2, np.float32)

    def read(self) -> RobotState:
        self._check()
        return RobotState(stamp_s=0.0, values=self.shared)

    def command(self, target: Array) -> Array:
        super().command(target)
        self.shared += 0.1
        return target


class ChangesTheTarget(Broken):
    def command(self, target: Array) -> Array:
        super().command(target)
        target += 0.01
        return target


class SendsBeyondItsSpec(Broken):
    def command(self, target: Array) -> Array:
        return super().command(target) + np.float32(1)


class SendsDoubles(Broken):
    def command(self, target: Array) -> Array:
        return super().command(target).astype(np.float64)


class TakesAnything(Broken):
    def command(self, target: Array) -> Array:
        self._check()
        return np.zeros(2, np.float32)


class TakesOneTooMany(Broken):
    def command(self, target: Array) -> Array:
        return super().command(target[:2])


class SendsWhatIsBeyond(Broken):
    def command(self, target: Array) -> Array:
        self._check()
        if not np.isfinite(target).all() or target.shape != (2,):
            self._spec.command.check(target)
        return target


class CannotHaltOpen(Broken):
    def halt(self) -> None:
        if self._is_open:
            raise RobotFault("it runs")


class StaysOpen(Broken):
    def close(self) -> None:
        pass


class OpensOnce(Broken):
    lives = 0

    def open(self) -> None:
        self.lives += 1
        if self.lives == 1:
            super().open()


def bounded(low: float, high: float) -> Box:
    return box("action", [("a", "", low, high), ("b", "", -1, 1)])


BROKEN_ROBOTS: dict[str, tuple[Callable[[], Robot], str]] = {
    "model": (lambda: Broken(model=""), "spec.model is empty"),
    "rate": (lambda: Broken(rate_hz=0.0), "spec.rate_hz is 0.0, not positive"),
    "rate inf": (lambda: Broken(rate_hz=float("inf")), "spec.rate_hz is inf"),
    "unbounded": (lambda: Broken(command=bounded(-1, float("inf"))), "spec.command.a is bounded by -1.0, inf"),
    "empty range": (lambda: Broken(command=bounded(1, 1)), "spec.command.a is bounded by 1.0, 1.0"),
    "same names": (lambda: Broken(command=box("action", [("a", "", 0, 1)] * 2)), "spec.command's names are not unique"),
    "state name": (lambda: Broken(state=bounded(-1, 1)), "spec.state is named action"),
    "state names": (lambda: Broken(state=box("observation.state", [("a", "", 0, 1)] * 2)), "state's names are not"),
    "silence": (lambda: Broken(on_silence=OnSilence.OUT_OF_BAND), "one contradicts the other"),
    "halt command": (lambda: Broken(halt_command=("stop",)), "one contradicts the other"),
    "reads closed": (ReadsWhenClosed, "read before open does not raise RobotUnreachable"),
    "commanded closed": (CommandedWhenClosed, "command before open does not raise RobotUnreachable"),
    "halt closed": (CannotHaltClosed, "halt before open raises RobotUnreachable"),
    "halt twice": (CannotHaltTwice, "raises RobotFault: halted already"),
    "halt open": (CannotHaltOpen, "halt raises RobotFault: it runs"),
    "stays open": (StaysOpen, "read after close does not raise RobotUnreachable"),
    "close twice": (CannotCloseTwice, "close a second time raises HardwareError: closed already"),
    "reads beyond": (ReadsBeyondItsSpec, "a reading after open breaks its spec: observation.state.point.x = 9 m"),
    "stamps": (StampsBackwards, "the stamps of readings go backwards"),
    "stamps nan": (StampsNotANumber, "the stamps of readings are not finite"),
    "shares": (SharesItsState, "command after open overwrites the values of an earlier reading"),
    "changes": (ChangesTheTarget, "command after open changes the caller's array"),
    "sends beyond": (SendsBeyondItsSpec, "what command after open returns as sent breaks spec.command"),
    "sends doubles": (SendsDoubles, "breaks spec.command: action is float64"),
    "takes nan": (TakesAnything, "command of NaN does not raise SpecError"),
    "takes more": (TakesOneTooMany, "command of one element too many does not raise SpecError"),
    "sends all": (SendsWhatIsBeyond, "what command beyond its bounds returns as sent breaks spec.command"),
    "opens once": (OpensOnce, "not open"),
}


@pytest.mark.parametrize("name", BROKEN_ROBOTS)
def test_the_robot_kit_notices(name: str) -> None:
    make, sentence = BROKEN_ROBOTS[name]
    with pytest.raises((AssertionError, HardwareError)) as caught:
        check_robot(make)
    assert sentence in str(caught.value)


def test_the_robot_kit_leaves_a_broken_robot_halted_and_closed() -> None:
    robot = TakesAnything()
    with pytest.raises(AssertionError):
        check_robot(lambda: robot)
    assert robot.halts > 0
    assert not robot._is_open


class BrokenCamera(FakeCamera):
    def __init__(self, name: str = "fake") -> None:
        super().__init__(name=name, clock=FakeClock())


class Misnamed(BrokenCamera):
    def __init__(self) -> None:
        super().__init__()
        self._spec = Image(name="front", height=16, width=16)


class SeesWhenClosed(BrokenCamera):
    def read(self) -> Frame:
        self._is_open = True
        return super().read()


class SeesAnotherSize(BrokenCamera):
    def read(self) -> Frame:
        return structs.replace(super().read(), pixels=np.zeros((2, 2, 3), np.uint8))


class ReusesItsFrame(BrokenCamera):
    buffer = np.zeros((16, 16, 3), np.uint8)

    def read(self) -> Frame:
        frame = super().read()
        self.buffer[:] = self.frames
        return structs.replace(frame, pixels=self.buffer)


class StampsFramesBackwards(BrokenCamera):
    def read(self) -> Frame:
        self.clock.advance(-1.0)  # type: ignore[attr-defined]
        return super().read()


class ClosesOnce(BrokenCamera):
    def close(self) -> None:
        if not self._is_open:
            raise HardwareError("closed already")
        super().close()


class KeepsSeeing(BrokenCamera):
    def close(self) -> None:
        pass


BROKEN_CAMERAS: dict[str, tuple[Callable[[], Camera], str]] = {
    "name": (Misnamed, "a camera's spec is named front, not observation.images.NAME"),
    "closed": (SeesWhenClosed, "read before open does not raise HardwareError"),
    "size": (SeesAnotherSize, "a frame breaks its spec: observation.images.fake is uint8[2, 2, 3]"),
    "reuse": (ReusesItsFrame, "a later read overwrites the pixels of an earlier frame"),
    "stamps": (StampsFramesBackwards, "the stamps of frames go backwards"),
    "keeps seeing": (KeepsSeeing, "read after close does not raise HardwareError"),
    "close": (ClosesOnce, "close a second time raises HardwareError: closed already"),
}


@pytest.mark.parametrize("name", BROKEN_CAMERAS)
def test_the_camera_kit_notices(name: str) -> None:
    make, sentence = BROKEN_CAMERAS[name]
    with pytest.raises((AssertionError, HardwareError)) as caught:
        check_camera(make)
    assert sentence in str(caught.value)


class BrokenTeleop(FakeTeleop):
    def __init__(self) -> None:
        robot = FakeRobot(clock=FakeClock())
        robot.open()
        super().__init__(robot=robot, clock=robot.clock)


class PollsWhenClosed(BrokenTeleop):
    def poll(self) -> TeleopReading:
        return TeleopReading(stamp_s=0.0, action=None)


class ActsBeyond(BrokenTeleop):
    def poll(self) -> TeleopReading:
        return structs.replace(super().poll(), action=np.ones(2, np.float32))


class IntervenesWithEmptyHands(BrokenTeleop):
    def poll(self) -> TeleopReading:
        return structs.replace(super().poll(), action=None, is_intervention=True)


class IntervenesWithoutItsButton(BrokenTeleop):
    def poll(self) -> TeleopReading:
        return structs.replace(super().poll(), action=np.zeros(2, np.float32), is_intervention=True, is_enabled=False)


class PollsBackwards(BrokenTeleop):
    def poll(self) -> TeleopReading:
        self.clock.advance(-1.0)  # type: ignore[attr-defined]
        return super().poll()


class Unbounded(BrokenTeleop):
    @property
    def action(self) -> Box:
        return bounded(-1, float("inf"))


class KeepsPolling(BrokenTeleop):
    def close(self) -> None:
        pass


class LetsGoOnce(BrokenTeleop):
    def close(self) -> None:
        if not self._is_open:
            raise HardwareError("closed already")
        super().close()


BROKEN_TELEOPS: dict[str, tuple[Callable[[], Teleop], str]] = {
    "closed": (PollsWhenClosed, "poll before open does not raise HardwareError"),
    "beyond": (ActsBeyond, "the operator's action breaks its spec: action.point.delta.x = 1 m"),
    "keeps polling": (KeepsPolling, "poll after close does not raise HardwareError"),
    "close": (LetsGoOnce, "close a second time raises HardwareError: closed already"),
    "empty": (IntervenesWithEmptyHands, "an intervention without an action"),
    "button": (IntervenesWithoutItsButton, "an intervention while the enabling device is not held"),
    "stamps": (PollsBackwards, "the stamps of readings go backwards"),
    "unbounded": (Unbounded, "a teleop's action.a is bounded by -1.0, inf"),
}


@pytest.mark.parametrize("name", BROKEN_TELEOPS)
def test_the_teleop_kit_notices(name: str) -> None:
    make, sentence = BROKEN_TELEOPS[name]
    with pytest.raises(AssertionError) as caught:
        check_teleop(make)
    assert sentence in str(caught.value)


@pytest.mark.slow
def test_the_teleop_kit_notices_a_poll_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hal.kits._POLL_S", 0.0)
    with pytest.raises(AssertionError, match="poll blocks for"):
        check_teleop(BrokenTeleop)


class BrokenTask(FakeTask):
    def __init__(self) -> None:
        super().__init__(FakeTaskConfig(), FakeRobot(clock=FakeClock()))


class NamedAtLength(BrokenTask):
    @property
    def name(self) -> str:
        return "n" * 49


class NeverLasts(BrokenTask):
    @property
    def max_steps(self) -> int:
        return 0


class StartsAnywhere(BrokenTask):
    def reset(self, seed: int) -> None:
        super().reset(int(np.random.default_rng().integers(2**32)))


class StartsWhereItWas(BrokenTask):
    def reset(self, seed: int) -> None:
        self.robot.place(self.robot.read().values + np.float32(0.01))


class StartsAtOnePlace(BrokenTask):
    def reset(self, seed: int) -> None:
        super().reset(0)


class PaysNothingKnown(BrokenTask):
    def judge(self) -> Judgement:
        return structs.replace(super().judge(), reward=float("nan"))


class PaysNumpy(BrokenTask):
    def judge(self) -> Judgement:
        return structs.replace(super().judge(), done=np.bool_(False))


class EndsTwice(BrokenTask):
    def judge(self) -> Judgement:
        return structs.replace(super().judge(), done=True, truncated=True)


BROKEN_TASKS: dict[str, tuple[type[BrokenTask], str]] = {
    "name": (NamedAtLength, "is not 1 to 48 bytes"),
    "steps": (NeverLasts, "task.max_steps is 0, not positive"),
    "anywhere": (StartsAnywhere, "twice gives two different starts"),
    "where it was": (StartsWhereItWas, "twice gives two different starts"),
    "one place": (StartsAtOnePlace, "every seed gives the same start"),
    "nan": (PaysNothingKnown, "a reward of nan is not a finite float"),
    "numpy": (PaysNumpy, "judgement.done is of <class 'numpy.bool'>, not a bool"),
    "twice": (EndsTwice, "a judgement is both done and truncated"),
}


def robot_and_task(make: Callable[[], BrokenTask]) -> tuple[Robot, Task]:
    task = make()
    return task.robot, task


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_the_task_kit_notices(name: str) -> None:
    make, sentence = BROKEN_TASKS[name]
    with pytest.raises(AssertionError) as caught:
        check_task(lambda: robot_and_task(make))
    assert sentence in str(caught.value)


def test_a_real_task_need_not_start_bit_identically() -> None:
    check_task(lambda: robot_and_task(StartsAnywhere), exact=False)


def test_a_specs_default_is_a_bounded_robot() -> None:
    spec: RobotSpec = FakeRobot(clock=CLOCK).spec
    assert spec.on_silence is OnSilence.STOPS
