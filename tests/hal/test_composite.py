"""Several robots as one: fakes, and the real drivers over their emulators."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from edge.main import configuration
from hal.composite import Composite, run_all
from hal.driver import Parts
from hal.emulators.feetech import FeetechEmulator, feetech_emulator
from hal.emulators.robotiq import RobotiqEmulator, robotiq_emulator
from hal.guard import Guarded
from hal.kits import check_robot
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence
from hal.robotiq import Robotiq, RobotiqConfig
from hal.tables.robots import ROBOTS
from hal.testing import CoastingConfig, CoastingRobot, FakeRobot, FakeRobotConfig, Motion
from tests.hal.arm_files import make_so101
from user_rl.clock import FakeClock, SystemClock
from user_rl.config import build
from user_rl.errors import ConfigError, RobotFault, RobotUnreachable, SpecError
from user_rl.specs import Array


def fakes() -> tuple[Composite, FakeRobot, FakeRobot]:
    left = FakeRobot(clock=FakeClock(7.0))
    right = FakeRobot(FakeRobotConfig(rate_hz=25.0), clock=FakeClock(6.0))
    return Composite({"left": left, "right": right}), left, right


def opened() -> tuple[Composite, FakeRobot, FakeRobot]:
    both, left, right = fakes()
    both.open()
    return both, left, right


def step(*values: float) -> Array:
    return np.array(values, np.float32)


def test_two_fakes_keep_the_contract_bare_and_guarded() -> None:
    both = fakes()[0]
    check_robot(lambda: both)
    guarded = Guarded(both, clock=FakeClock())
    check_robot(lambda: guarded)


def test_elements_carry_their_parts_names() -> None:
    spec = fakes()[0].spec
    assert spec.state.names == ("left.point.x", "left.point.y", "right.point.x", "right.point.y")
    assert spec.command.names[2:] == ("right.point.delta.x", "right.point.delta.y")
    assert (spec.command.units, spec.command.low) == (("m",) * 4, (-0.1,) * 4)
    assert spec.model == "fake+fake"


def test_the_rate_is_the_slowest_and_a_reading_as_old_as_its_oldest_part() -> None:
    both, left, _ = opened()
    left.place(np.array([0.5, 0.25]))
    assert both.spec.rate_hz == 10.0
    state = both.read()
    assert state.stamp_s == 6.0
    np.testing.assert_allclose(state.values, [0.5, 0.25, 0, 0])


def test_each_part_gets_its_share_of_a_command() -> None:
    both, left, right = opened()
    sent = both.command(step(0.1, 0, 0, -0.1))
    np.testing.assert_array_equal(left.sent, [step(0.1, 0)])
    np.testing.assert_array_equal(right.sent, [step(0, -0.1)])
    np.testing.assert_array_equal(sent, step(0.1, 0, 0, -0.1))


def test_nothing_is_sent_when_one_parts_share_is_refused() -> None:
    both, left, right = opened()
    with pytest.raises(SpecError, match=r"action.right.point.delta.y = 5 m"):
        both.command(step(0, 0, 0, 5))
    with pytest.raises(SpecError, match=r"float32\[5\], allowed float32\[4\]"):
        both.command(step(0, 0, 0, 0, 0))
    assert not left.sent
    assert not right.sent


def test_a_fault_names_its_part_and_halts_the_others() -> None:
    both, left, right = opened()
    right.fault = "jammed"
    with pytest.raises(RobotFault, match=r"^right: jammed$"):
        both.read()
    halts = left.halts
    with pytest.raises(RobotFault, match=r"^right: jammed$"):
        both.command(step(0, 0, 0, 0))
    assert left.halts == halts + 1


def test_a_closed_one_says_so_before_anything_else() -> None:
    both, _, _ = opened()
    both.close()
    with pytest.raises(RobotUnreachable, match=r"fake\+fake is not open; call open\(\) first"):
        both.command(step(0, 0, 0, 0, 0))


class Unstoppable(FakeRobot):
    def halt(self) -> None:
        super().halt()
        raise RobotUnreachable("no answer")

    def close(self) -> None:
        super().close()
        raise RobotUnreachable("no answer")


@pytest.mark.parametrize("stop", ["halt", "close"])
def test_a_stop_reaches_every_part_even_if_one_cannot(stop: str, caplog: pytest.LogCaptureFixture) -> None:
    first, last = Unstoppable(clock=FakeClock()), FakeRobot(clock=FakeClock())
    robot = Composite({"a": first, "b": Unstoppable(clock=FakeClock()), "c": last})
    robot.open()
    with pytest.raises(RobotUnreachable, match=r"^a: no answer$"):
        getattr(robot, stop)()
    assert "b: no answer" in caplog.text
    if stop == "halt":
        assert last.halts == 1
    else:
        with pytest.raises(RobotUnreachable):
            last.read()


def test_a_part_that_does_not_open_closes_what_was_opened() -> None:
    both, left, right = fakes()
    right.unreachable = True
    with pytest.raises(RobotUnreachable, match=r"^right: "):
        both.open()
    with pytest.raises(RobotUnreachable, match="is not open"):
        left.read()


def coasting(folder: Path, name: str, declared: OnSilence = OnSilence.OUT_OF_BAND) -> CoastingRobot:
    return CoastingRobot(CoastingConfig(path=str(folder / name), declared=declared))


def test_silence_does_to_it_the_worst_that_it_does_to_a_part(tmp_path: Path) -> None:
    fake, out, none = (
        FakeRobot(clock=FakeClock()), coasting(tmp_path, "a"), coasting(tmp_path, "b", OnSilence.NONE)
    )  # fmt: skip
    assert Composite({"a": fake}).spec.on_silence is OnSilence.STOPS
    one = Composite({"a": fake, "b": out}).spec
    assert (one.on_silence, one.halt_command) == (OnSilence.OUT_OF_BAND, out.spec.halt_command)
    worst = Composite({"a": fake, "b": out, "c": none}).spec
    assert (worst.on_silence, worst.halt_command) == (OnSilence.NONE, ())


@pytest.mark.slow
def test_one_command_halts_all_parts_whose_processes_are_gone(tmp_path: Path) -> None:
    both = Composite({"left": coasting(tmp_path, "left"), "right": coasting(tmp_path, "right")})
    check_robot(lambda: both)
    both.open()
    both.command(step(0.1, 0, 0.1, 0))
    assert [Motion.load(tmp_path / name).moves for name in ("left", "right")] == [True, True]
    subprocess.run(both.spec.halt_command, check=True, timeout=60)
    assert [Motion.load(tmp_path / name).moves for name in ("left", "right")] == [False, False]


@pytest.mark.slow
def test_a_halt_command_that_fails_keeps_no_other_from_running(tmp_path: Path) -> None:
    arm = coasting(tmp_path, "arm")
    arm.open()
    arm.command(step(0.1, 0))
    commands = [["/nowhere/halt"], [sys.executable, "-c", "raise SystemExit(3)"], list(arm.spec.halt_command)]
    run = subprocess.run(
        [sys.executable, "-m", "hal.composite", "halt", *map(json.dumps, commands)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert run.returncode == 1
    assert "/nowhere/halt: [Errno 2]" in run.stderr
    assert "it ended with code 3" in run.stderr
    assert not Motion.load(tmp_path / "arm").moves


@pytest.mark.slow
def test_a_halt_command_that_hangs_is_ended() -> None:
    hangs = [sys.executable, "-c", "import threading; threading.Event().wait()"]
    (wrong,) = run_all([hangs], wait_s=0.3)
    assert wrong.endswith("it had not ended after 0.3 s")


@pytest.mark.slow
def test_the_halt_command_says_how_it_is_used() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "hal.composite"], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.stderr.startswith("usage: python -m hal.composite halt COMMAND...")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[tuple[FeetechEmulator, FeetechEmulator, RobotiqEmulator, Composite]]:
    """Two arms and a gripper over their wires, as one robot."""
    with ExitStack() as stack:
        left, right = (stack.enter_context(feetech_emulator(clock=FakeClock())) for _ in range(2))
        gripper = stack.enter_context(robotiq_emulator(clock=FakeClock()))
        arms = {"left": make_so101(left, tmp_path), "right": make_so101(right, tmp_path)}
        config = RobotiqConfig(host="127.0.0.1", port=gripper.port, answer_s=5.0, rate_hz=0.15)
        yield left, right, gripper, Composite({**arms, "gripper": Robotiq(config, clock=SystemClock())})


def test_two_arms_and_a_gripper_over_their_wires_keep_the_contract(
    bench: tuple[FeetechEmulator, FeetechEmulator, RobotiqEmulator, Composite],
) -> None:
    *_, robot = bench
    check_robot(lambda: robot)
    assert robot.spec.model == "so101+so101+robotiq"
    assert robot.spec.command.names[-1] == "gripper.opening.target"


@pytest.mark.slow
def test_a_servo_that_goes_halts_the_other_arm_and_the_gripper(
    bench: tuple[FeetechEmulator, FeetechEmulator, RobotiqEmulator, Composite],
) -> None:
    left, right, gripper, robot = bench
    robot.open()
    robot.command(np.array([1.0, *[0.0] * 5, *[0.0] * 6, 0.0], np.float32))
    robot.read()
    assert gripper.gripper.registers["GTO"] == 1
    right.faults.missing = {3}
    with pytest.raises(RobotUnreachable, match=r"^right: elbow_flex \(id 3\) did not answer"):
        robot.read()
    with pytest.raises(RobotUnreachable, match=r"^right: elbow_flex \(id 3\) cannot be held"):
        robot.halt()
    assert gripper.gripper.registers["GTO"] == 0
    assert left.servos[1].table[42:44] == left.servos[1].table[56:58]
    robot.close()


def test_the_configuration_makes_a_composite_of_named_parts() -> None:
    parts = "robot.parts={left: {name: fake}, right: {name: fake, rate_hz: 5.0}}"
    tree = configuration(None, ["robot=composite", parts, "task=fake"])["robot"]
    cls, make = ROBOTS["composite"]
    robot = make(build(cls, {"parts": tree["parts"]}), Parts(clock=FakeClock(3.0), seed=1))
    assert isinstance(robot, Composite)
    assert list(robot.parts) == ["left", "right"]
    assert robot.spec.rate_hz == 5.0
    robot.open()
    assert robot.read().stamp_s == 3.0


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, r"robot.parts = \[\], allowed one or more names without a dot"),
        ({"a.b": {"name": "fake"}}, r"robot.parts = \['a.b'\], allowed"),
        ({"left": {"name": "fact"}}, r"robot.parts.left.name = fact, allowed panda_sim"),
        ({"left": {"name": "fake", "rate": 3}}, r"robot.parts.left.rate: no such key, did you mean rate_hz\?"),
    ],
)
def test_parts_that_cannot_be_are_refused_in_one_line(parts: dict[str, dict[str, object]], line: str) -> None:
    tree = {"name": "composite", "parts": parts}
    with pytest.raises(ConfigError, match=line):
        make_cell(CellConfig(robot=tree, task={"name": "fake"}), name="a", clock=FakeClock(), seed=1)
