"""Layouts and embodied cells: who has what, what is padding, and what is refused."""

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from hal.cell import Cell
from hal.embodiment import Embodied, Layout, make_layout
from hal.guard import Guarded
from hal.kits import check_robot, check_teleop
from hal.make import CellConfig, make_cell
from hal.robot import RobotSpec
from hal.testing import FakeRobot, FakeTeleop
from hal.translated import Translated
from user_rl.clock import FakeClock, FreeRunningClock
from user_rl.config import build
from user_rl.embodiment import flags_of, mask_of
from user_rl.errors import ConfigError, SpecError
from user_rl.specs import Array, box

FAKE: dict[str, Any] = {"robot": {"name": "fake"}, "task": {"name": "fake"}, "teleop": {"name": "fake"}}
PENDULUM: dict[str, Any] = {"robot": {"name": "gymnasium", "id": "Pendulum-v1"}, "task": {"name": "gymnasium"}}


def make(tree: dict[str, Any], layout: Layout | None = None, name: str = "cell") -> Cell:
    config = replace(build(CellConfig, tree), layout=layout)
    return make_cell(config, name=name, clock=FreeRunningClock(), seed=1)


def arm(name: str, task: str = "peg_insertion") -> dict[str, Any]:
    return {"robot": {"name": name, "control": "joints"}, "task": {"name": task}, "teleop": {"name": "scripted"}}


def joints_layout() -> Layout:
    return make_layout([make(arm("panda_sim")), make(arm("arm6_sim"))])


def fake(**changes: Any) -> Cell:  # noqa: ANN401
    """A cell whose robot's spec is changed."""
    cell = make(FAKE)
    robot = FakeRobot(clock=FakeClock())
    robot._spec = replace(robot.spec, **changes)
    return replace(cell, robot=Guarded(robot, clock=FakeClock()))


def flags(cell: Cell) -> dict[str, float]:
    values = cell.robot.read().values
    names = cell.robot.spec.state.names
    return {names[i]: float(values[i]) for i in flags_of(cell.robot.spec.state)}


@pytest.mark.slow
def test_arms_of_seven_and_six_joints_share_what_they_have_in_common() -> None:
    layout = joints_layout()
    assert layout.command.names == tuple(f"joint.{n}.delta" for n in range(1, 8))
    assert layout.state.names[:13] == make(arm("arm6_sim")).robot.spec.state.names[:13]
    assert layout.state.names[13:27] == tuple(f"joint.{n}.{w}" for w in ("from_home", "offset") for n in range(1, 8))
    assert layout.state.names[27:34] == tuple(f"mask.joint.{n}.delta" for n in range(1, 8))
    assert layout.state.names[34:] == ("embodiment.panda_sim_joints", "embodiment.arm6_sim_joints")
    assert mask_of(layout.state, layout.command) == tuple(range(27, 34))
    assert flags_of(layout.state) == tuple(range(27, 36))


def test_a_layout_travels_as_plain_text() -> None:
    layout = joints_layout()
    tree = json.loads(json.dumps(arm("arm6_sim") | {"layout": asdict(layout)}))
    assert build(CellConfig, tree).layout == layout


@pytest.mark.parametrize("name", ["panda_sim", "arm6_sim"])
@pytest.mark.slow
def test_an_embodied_arm_keeps_the_contract(name: str) -> None:
    layout = joints_layout()
    check_robot(lambda: make(arm(name), layout).robot)


def test_an_embodied_point_keeps_the_contract() -> None:
    layout = make_layout([make(FAKE), make(PENDULUM)])
    check_robot(lambda: make(FAKE, layout).robot)
    check_robot(lambda: make(PENDULUM, layout).robot)


def test_each_cell_says_what_it_is() -> None:
    layout = make_layout([make(FAKE), make(PENDULUM)])
    point, pendulum = make(FAKE, layout), make(PENDULUM, layout)
    assert point.observation == pendulum.observation
    assert point.action == pendulum.action
    point.open()
    pendulum.open()
    torque = pendulum.action.names[2]
    assert flags(point) == {
        "mask.point.delta.x": 1, "mask.point.delta.y": 1, f"mask.{torque}": 0, "embodiment.fake": 1,
        "embodiment.Pendulum-v1": 0, "task.fake": 1, "task.Pendulum-v1": 0,
    }  # fmt: skip
    assert flags(pendulum) == {name: 1 - value for name, value in flags(point).items()}
    point.close()
    pendulum.close()


def test_what_is_alike_needs_no_id() -> None:
    names = make_layout([make(FAKE), make(FAKE)]).state.names
    assert names == ("point.x", "point.y", "mask.point.delta.x", "mask.point.delta.y")


def test_padding_reads_as_nothing_is_ignored_and_comes_back_as_nothing() -> None:
    layout = make_layout([make(PENDULUM), make(FAKE)])
    cell = make(FAKE, layout)
    cell.open()
    cell.task.reset(3)
    x, y = layout.state.names.index("point.x"), layout.state.names.index("point.y")
    seen = cell.robot.read().values
    cell.robot.read()
    sent = cell.robot.command(np.array([1.7, 0.01, -0.02], np.float32))
    np.testing.assert_array_equal(sent, np.array([0, 0.01, -0.02], np.float32))
    moved = cell.robot.read().values - seen
    np.testing.assert_allclose([moved[x], moved[y]], [0.01, -0.02], atol=1e-6)
    others = [i for i, name in enumerate(layout.state.names) if "observation" in name]
    assert len(others) == 3
    assert not seen[others].any()
    cell.close()


def test_padding_that_may_not_be_zero_is_the_nearest_that_may() -> None:
    gripper = box("action", [("finger.gap", "m", 0.02, 0.08)])
    layout = make_layout([make(FAKE), fake(model="hand", command=gripper)])
    cell = make(FAKE, layout)
    cell.open()
    cell.robot.read()
    np.testing.assert_allclose(cell.robot.command(np.array([0.0, 0.0, 0.05], np.float32)), [0, 0, 0.02])
    cell.close()


def test_bounds_are_the_widest_and_a_robot_keeps_to_its_own() -> None:
    wide = box("action", [("point.delta.x", "m", -0.05, 0.4), ("point.delta.y", "m", -0.3, 0.05)])
    layout = make_layout([make(FAKE), fake(model="long", command=wide)])
    assert (layout.command.low, layout.command.high) == ((-0.1, -0.3), (0.4, 0.1))
    cell = make(FAKE, layout)
    cell.open()
    cell.robot.read()
    np.testing.assert_allclose(cell.robot.command(np.array([0.4, -0.3], np.float32)), [0.1, -0.1])
    cell.close()


def test_a_command_of_another_length_is_refused_before_anything_moves() -> None:
    cell = make(FAKE, make_layout([make(FAKE), make(PENDULUM)]))
    cell.open()
    with pytest.raises(SpecError, match=r"fake was asked for \[0.0, 0.0\], allowed 3 numbers; nothing was sent"):
        cell.robot.command(np.zeros(2, np.float32))
    cell.close()


def test_an_embodied_operator_keeps_the_contract_and_says_nothing_of_the_padding() -> None:
    layout = make_layout([make(FAKE), make(PENDULUM)])
    cell = make(FAKE, layout)
    assert isinstance(cell.teleop, Translated)
    cell.robot.open()
    check_teleop(lambda: make_operator(cell))
    teleop = make_operator(cell)
    teleop.open()
    teleop.begin(demonstrate=True)
    action = teleop.poll().action
    assert action is not None
    assert action.shape == (3,)
    assert action[2] == 0
    teleop.begin(demonstrate=False)
    assert teleop.poll().action is None
    cell.robot.close()


def make_operator(cell: Cell) -> Translated:
    assert isinstance(cell.robot, Embodied)
    operator = FakeTeleop(robot=cell.robot.robot, clock=FreeRunningClock())
    return Translated(operator, cell.action, cell.robot.widened)


def spec(**changes: Any) -> RobotSpec:  # noqa: ANN401
    return replace(FakeRobot(clock=FakeClock()).spec, **changes)


def state(*names: str, unit: str = "m") -> Any:  # noqa: ANN401
    return box("observation.state", [(name, unit, -1.0, 1.0) for name in names])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            lambda: [make(FAKE), fake(model="inch", state=state("point.x", unit="in"))],
            "point.x is in 'm' for fake, in 'in' for inch; rename one",
        ),
        (
            lambda: [fake(model="odd", state=state("task.x"))],
            "odd measures task.x, allowed names without mask., embodiment., task.; rename it",
        ),
        (
            lambda: [make(FAKE, name="left"), make(FAKE | {"cameras": {"front": {"name": "fake"}}}, name="right")],
            "right has cameras front, left has none, allowed the same names and sizes; "
            "give every cell the same cameras",
        ),
    ],
)
def test_cells_that_do_not_fit_are_refused(cells: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(ConfigError) as error:
        make_layout(cells())
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (PENDULUM, "Pendulum-v1 has observation.0, the layout's observation.state has not; make the layout of all"),
        (
            FAKE | {"robot": {"name": "coasting", "path": "/x"}},
            "the layout knows embodiment.fake, embodiment.long, not",
        ),
    ],
)
def test_a_cell_that_the_layout_does_not_know_is_refused(tree: dict[str, Any], message: str) -> None:
    layout = make_layout([make(FAKE), fake(model="long")])
    with pytest.raises(ConfigError) as error:
        make(tree, layout)
    assert message in str(error.value)


def test_readings_and_what_was_sent_do_not_overwrite_one_another() -> None:
    cell = make(FAKE, make_layout([make(FAKE), make(PENDULUM)]))
    cell.open()
    first: Array = cell.robot.read().values
    kept = first.copy()
    sent = cell.robot.command(np.full(3, 0.05, np.float32))
    cell.robot.read()
    cell.robot.command(np.full(3, 0.01, np.float32))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(sent, np.array([0.05, 0.05, 0], np.float32))
    cell.close()
