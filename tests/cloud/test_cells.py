"""The cells of a run: alike, or each with what differs; wrong keys are named with their whole path."""

from typing import Any

import pytest

from cloud.cells import cell_trees, trial_cells
from cloud.config import LaunchConfig, RobotsConfig, build_launch, compose_launch
from cloud.run import RunFolder, edge_name
from user_rl.errors import ConfigError

ROOT: dict[str, Any] = {
    "robot": {"name": "fake", "rate_hz": 20.0}, "task": {"name": "fake", "max_steps": 30, "near_m": 0.2},
    "cameras": {}, "teleop": {"name": "fake"}, "guard": {},
}  # fmt: skip
PENDULUM = {"robot": {"name": "gymnasium", "id": "Pendulum-v1"}, "task": "gymnasium", "teleop": "none"}


def trees(**cells: Any) -> dict[str, Any]:  # noqa: ANN401
    return cell_trees(ROOT | {"cells": cells})


def test_a_run_without_cells_has_one_kind_and_no_layout() -> None:
    assert cell_trees(ROOT | {"seed": 3, "cells": {}}) == {"sim": ROOT | {"layout": None}}


def test_a_cell_has_the_runs_keys_but_for_what_it_changes() -> None:
    found = trees(near={}, far={"task": {"near_m": 0.1}, "guard": {"max_state_age_s": 1.0}})
    assert {k: v for k, v in found["near"].items() if k != "layout"} == ROOT
    assert found["far"]["task"] == {"name": "fake", "max_steps": 30, "near_m": 0.1}
    assert found["far"]["guard"] == {"max_state_age_s": 1.0}
    assert found["far"]["robot"] == ROOT["robot"]


def test_a_group_within_a_part_keeps_the_keys_that_are_not_named() -> None:
    front = {"name": "fake", "height": 8, "width": 12}
    found = cell_trees(ROOT | {"cameras": {"front": front}, "cells": {"a": {"cameras": {"front": {"height": 8}}}}})
    assert found["a"]["cameras"] == {"front": front}


def test_another_choice_begins_with_its_own_defaults() -> None:
    found = trees(point={}, pendulum=PENDULUM)
    assert found["pendulum"]["robot"] == {"name": "gymnasium", "id": "Pendulum-v1"}
    assert found["pendulum"]["task"] == {"name": "gymnasium", "max_steps": None}
    assert found["pendulum"]["teleop"] == {}


def test_cells_that_differ_share_one_row() -> None:
    cells = trial_cells(ROOT | {"cells": {"point": {}, "pendulum": PENDULUM}})
    assert [cell.name for cell in cells] == ["point", "pendulum"]
    assert cells[0].observation == cells[1].observation
    assert cells[0].action.names == ("point.delta.x", "point.delta.y", "action.0")


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"a": {"robt": "fake"}}, "cells.a.robt: no such key, did you mean robot?"),
        ({"a": {"robot": "fakee"}}, "cells.a.robot = 'fakee': no such choice, did you mean fake?"),
        ({"a": {"robot": {"rate": 5.0}}}, "cells.a.robot.rate: no such key, did you mean rate_hz?"),
        ({"a": {"robot": {"name": "nobot"}}}, "cells.a.robot.name = nobot, allowed panda_sim"),
        ({"a": {"robot": 5}}, "cells.a.robot = 5, allowed a choice by name or a group of keys; change it"),
        ({"a": {"guard": "fake"}}, "cells.a.guard = 'fake', allowed a group of keys; change it"),
        ({"a": {"task": "peg_insertion"}}, "cells.a.task=peg_insertion on fake, allowed on robot=panda_sim"),
        ({"a": 7}, "cells.a = 7, allowed a group of keys; give cells.a={robot: NAME}"),
        ({"A b": {}}, "cells.A b: allowed up to 24 small letters, digits and _, a letter first; rename the cell"),
        ({"a": {}, "b": {"cameras": "fake"}}, "b has cameras front, a has none"),
    ],
)
def test_what_a_cell_cannot_be_is_named_with_its_path(cells: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        trees(**cells)
    assert str(error.value).startswith(message)


def test_cells_of_real_robots_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cells = a, b, allowed with robots.simulated=true"):
        LaunchConfig(cells={"a": {}, "b": {}}, robots=RobotsConfig(simulated=False))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "each"), [(1, 10), (2, 5), (3, 4)])
def test_cells_record_equal_shares_of_the_demonstrations(count: int, each: int) -> None:
    overrides = ["task=fake", "robot=fake", "demonstrations.count=20", f"robots.count={count}"]
    config = build_launch(compose_launch([*overrides, "cells={a: {}, b: {task: {near_m: 0.3}}}"]))
    assert config.demonstrations_each == each
    assert build_launch(compose_launch(overrides)).demonstrations_each is None


@pytest.mark.slow
def test_the_command_line_changes_a_key_of_one_cell() -> None:
    tree = compose_launch(["experiment=button_press_hetero", "cells.arm6.robot.control=tip"])
    assert tree["cells"]["arm6"]["robot"]["control"] == "tip"
    assert tree["cells"]["panda"]["robot"]["control"] == "joints"
    with pytest.raises(ConfigError, match="did you mean"):
        compose_launch(["experiment=button_press_hetero", "cells.arm6.robt.control=tip"])


@pytest.mark.parametrize("experiment", ["button_press_hetero", "two_arms_two_tasks"])
@pytest.mark.slow
def test_the_experiments_build_and_their_cells_differ(experiment: str) -> None:
    tree = compose_launch([f"experiment={experiment}"])
    build_launch(tree)
    panda, arm6 = trial_cells(tree)
    assert panda.observation == arm6.observation
    assert panda.robot.robot.spec.state != arm6.robot.robot.spec.state  # type: ignore[attr-defined]
    assert panda.robot.robot.spec.command != arm6.robot.robot.spec.command  # type: ignore[attr-defined]


def test_edges_are_called_by_run_cell_and_number(tmp_path: Any) -> None:  # noqa: ANN401
    folder = RunFolder(tmp_path / "r")
    assert (edge_name(folder, "sim", 0), edge_name(folder, "arm6", 1)) == ("r-sim0", "r-arm6-1")
