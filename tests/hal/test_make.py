import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hal.guard import GuardConfig, Guarded
from hal.make import CAMERAS, ROBOTS, STORE, TASKS, TELEOPS, CellConfig, make_cell
from hal.testing import FakeRobot, FakeRobotConfig, FakeTask, FakeTaskConfig
from user_rl.clock import FakeClock, FreeRunningClock
from user_rl.config import build
from user_rl.errors import ConfigError
from user_rl.rows import make_schema, schema_from_bytes

PEG = {"robot": {"name": "panda_sim"}, "task": {"name": "peg_insertion"}}
FAKE = {"robot": {"name": "fake"}, "task": {"name": "fake"}}


def make(tree: dict[str, Any], seed: int = 1) -> Any:  # noqa: ANN401
    return make_cell(build(CellConfig, tree), name="cell", clock=FreeRunningClock(), seed=seed)


@pytest.mark.parametrize(
    "tree",
    [
        PEG,
        PEG | {"robot": {"name": "arm6_sim"}, "teleop": {"name": "scripted"}},
        PEG | {"cameras": STORE["cameras"]["two_sim"]},
        FAKE | {"teleop": {"name": "fake"}, "cameras": STORE["cameras"]["fake"]},
        {"robot": {"name": "gymnasium", "id": "Pendulum-v1"}, "task": {"name": "gymnasium"}},
    ],
    ids=lambda tree: tree["robot"]["name"],
)
def test_a_cell_of_each_kind_has_a_schema_that_travels(tree: dict[str, Any]) -> None:
    cell = make(tree)
    schema = make_schema(cell.observation, cell.action)
    assert schema_from_bytes(schema.encoded).digest == schema.digest
    assert set(cell.observation) == {"observation.state", *(f"observation.images.{c}" for c in tree.get("cameras", {}))}


def test_both_arms_share_observation_and_action() -> None:
    """One policy may drive either."""
    panda, arm6 = (make(PEG | {"robot": {"name": name}}) for name in ("panda_sim", "arm6_sim"))
    assert panda.observation == arm6.observation
    assert panda.action == arm6.action


def test_every_cells_robot_is_guarded_as_configured() -> None:
    cell = make(FAKE | {"guard": {"max_state_age_s": 0.25, "max_change": [0.1, 0.1]}})
    assert isinstance(cell.robot, Guarded)
    assert cell.robot.config == GuardConfig(max_state_age_s=0.25, max_change=(0.1, 0.1))
    assert cell.robot.clock is cell.robot.robot.clock  # type: ignore[attr-defined]


def test_one_seed_makes_one_cell_and_another_another() -> None:
    def shakes(seed: int) -> float:
        return float(make(PEG | {"teleop": {"name": "scripted"}}, seed).teleop._random.random())

    assert shakes(1) == shakes(1) != shakes(2)


def test_an_empty_teleop_is_nobody() -> None:
    assert make(FAKE | {"teleop": {}}).teleop is None
    assert make(FAKE | {"teleop": None}).teleop is None


def test_every_choice_stands_in_hydras_store_with_its_defaults() -> None:
    assert set(STORE["robot"]) == set(ROBOTS)
    assert set(STORE["task"]) == set(TASKS)
    assert set(STORE["teleop"]) == {"none", *TELEOPS}
    assert set(STORE["cameras"]) == {"none", "two_sim", "fake"}
    assert {tree["name"] for node in STORE["cameras"].values() for tree in node.values()} == set(CAMERAS)
    assert STORE["task"]["peg_insertion"]["clearance_m"] == 0.002
    assert STORE["robot"]["panda_sim"]["hand"]["max_step_m"] == 0.015
    assert STORE["robot"]["gymnasium"]["id"] == "???"
    views = {name: tree["view"] for name, tree in STORE["cameras"]["two_sim"].items()}
    assert views == {"front": "front", "wrist": "wrist"}


@pytest.mark.parametrize("group", ["robot", "task", "teleop"])
def test_what_the_store_holds_can_be_built(group: str) -> None:
    tables: dict[str, Any] = {"robot": ROBOTS, "task": TASKS, "teleop": TELEOPS}
    for name, tree in STORE[group].items():
        if name != "none":
            given = {key: "x" if value == "???" else value for key, value in tree.items() if key != "name"}
            config = build(tables[group][name][0], given)
            assert config is not None


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"robot": {"name": "panda"}}, r"robot.name = panda, allowed panda_sim, arm6_sim, .*; choose one of these"),
        ({"robot": {}}, "robot.name = None, allowed panda_sim"),
        ({"task": {"name": "peg"}}, "task.name = peg, allowed peg_insertion, button_press, .*gymnasium"),
        ({"cameras": {"top": {"name": "webcam"}}}, "cameras.top.name = webcam, allowed sim, fake"),
        ({"teleop": {"name": "spacemouse"}}, "teleop.name = spacemouse, allowed scripted, fake"),
        ({"robot": {"name": "panda_sim", "substep": 1}}, r"robot.substep: no such key, did you mean substep_s\?"),
        ({"robot": {"name": "panda_sim", "substep_s": 0.5}}, r"robot.substep_s = 0.5, allowed above 0 to 0.006"),
        ({"robot": {"name": "panda_sim", "hand": {"leash_m": -1.0}}}, r"robot.hand.leash_m = -1.0, allowed above 0"),
        ({"task": {"name": "peg_insertion", "clearance_m": "2 mm"}}, "task.clearance_m = '2 mm', allowed a float"),
        ({"cameras": {"top": {"name": "sim", "view": "top"}}}, r"cameras.top.view = 'top', allowed front, wrist"),
        ({"robot": {"name": "fake"}}, r"task=peg_insertion on fake, allowed on robot=panda_sim or robot=arm6_sim"),
        ({"task": {"name": "gymnasium"}}, "task=gymnasium on panda_sim, allowed on robot=gymnasium"),
        ({"task": {"name": "fake"}}, "task=fake on panda_sim, allowed on robot=fake or coasting"),
        (FAKE | {"teleop": {"name": "scripted"}}, "teleop=scripted on fake, allowed on robot=panda_sim"),
        (FAKE | {"cameras": {"top": {"name": "sim"}}}, "cameras.top on fake, allowed on robot=panda_sim"),
        ({"robot": {"name": "gymnasium"}}, "robot.id: not set; give robot.id=VALUE"),
    ],
)
def test_a_cell_that_cannot_be_made_is_refused_in_one_line(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        make(PEG | tree)
    assert "\n" not in str(caught.value)


def test_a_task_without_a_script_has_no_scripted_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        TASKS,
        "bare",
        (FakeTaskConfig, lambda config, parts: FakeTask(config, FakeRobot(FakeRobotConfig(), clock=parts.clock))),
    )
    with pytest.raises(ConfigError, match="teleop=scripted at task=fake, which has no script; choose another teleop"):
        make({"robot": {"name": "panda_sim"}, "task": {"name": "bare"}, "teleop": {"name": "scripted"}})


@pytest.mark.parametrize(
    ("task", "extra"),
    [("peg_insertion", ""), ("button_press", "button.depth"), ("pick_and_place", "gripper.width")],
)
def test_a_task_chooses_the_tool_and_what_is_seen(task: str, extra: str) -> None:
    cell = make({"robot": {"name": "panda_sim"}, "task": {"name": task}})
    names = cell.robot.spec.state.names
    assert names[:13] == make(PEG).robot.spec.state.names
    assert extra in names[13:] if extra else len(names) == 13


def test_without_mujoco_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [m for m in sys.modules if m.startswith(("hal.sim.robot", "hal.sim.arm", "hal.sim.world"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, "hal.kinematics", raising=False)
    for module in ("mujoco", "mink"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"robot=panda_sim needs (mujoco|mink); pip install 'user-rl\[sim\]'"):
        make(PEG)


@pytest.mark.slow
def test_importing_the_tables_loads_no_vendor_sdk() -> None:
    code = (
        "import sys, hal.make; print([m for m in ('mujoco', 'mink', 'gymnasium', 'torch', 'ray') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, timeout=120,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert run.stdout.strip() == "[]"


def test_a_coasting_cell_moves_by_the_fakes_task(tmp_path: Path) -> None:
    cell = make(FAKE | {"robot": {"name": "coasting", "path": str(tmp_path / "motion")}})
    cell.open()
    cell.task.reset(3)
    start = cell.observe().values["observation.state"]
    assert np.abs(start).max() > 0
    cell.close()


def test_the_clock_reaches_every_part() -> None:
    clock = FakeClock(42.0)
    tree = FAKE | {"cameras": STORE["cameras"]["fake"], "teleop": {"name": "fake"}}
    cell = make_cell(build(CellConfig, tree), name="cell", clock=clock, seed=1)
    cell.open()
    assert cell.observe().stamps_s == {"observation.state": 42.0, "observation.images.front": 42.0}
    assert cell.teleop is not None
    cell.teleop.begin(demonstrate=False)
    assert cell.teleop.poll().stamp_s == 42.0
    cell.close()
