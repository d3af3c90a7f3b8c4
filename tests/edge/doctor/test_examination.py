"""One flaw at a time, seen by the examination in this process, on a clock that only moves when it is slept through."""

from collections.abc import Iterator
from typing import Any

import pytest

from edge.doctor.diagnosis import Result, Row
from edge.doctor.examination import examine
from hal.tables.cameras import CAMERAS
from hal.tables.robots import ROBOTS
from hal.tables.tasks import TASKS
from tests.edge.doctor.broken import register, tree_of
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError

WELL_ROBOT = {
    "answers", "on silence", "emergency stop", "rate", "jitter", "stamps", "read call", "values", "velocity", "command",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _choices() -> Iterator[None]:
    kept = [(table, dict(table)) for table in (ROBOTS, CAMERAS, TASKS)]
    register()
    yield
    for table, before in kept:
        table.clear()
        table.update(before)  # type: ignore[arg-type]


def said(tree: dict[str, Any], **order: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    return list(examine({"cell": tree, "for_s": 3.0, **order}, clock=FakeClock(100.0)))


def rows_of(tree: dict[str, Any], **order: Any) -> dict[tuple[str, str], Row]:  # noqa: ANN401
    rows = [Row(**one["row"]) for one in said(tree, **order) if "row" in one]
    found = {(row.about, row.check): row for row in rows}
    assert len(found) == len(rows)
    return found


def not_ok(tree: dict[str, Any], **order: Any) -> dict[str, tuple[str, str, str]]:  # noqa: ANN401
    """{check: (result, found, to fix)} of all but the unset guard."""
    rows = rows_of(tree, **order)
    return {
        (check if about == "robot" else f"{about}: {check}"): (row.result, row.value, row.fix)
        for (about, check), row in rows.items()
        if row.result is not Result.OK and check != "guard"
    }


def test_a_cell_that_is_well_is_ok_in_every_row() -> None:
    rows = rows_of(tree_of(cameras={"front": ""}))
    assert {check for about, check in rows if about == "robot"} == WELL_ROBOT | {"guard"}
    assert [check for about, check in rows if about == "camera front"] == [
        "answers", "rate", "drops", "jitter", "stamps", "read call", "pictures"
    ]  # fmt: skip
    assert not_ok(tree_of(cameras={"front": ""})) == {}
    assert rows["robot", "rate"].value == "10 Hz"
    assert rows["camera front", "rate"].value == "30 Hz"
    assert rows["together", "observation"].result is Result.OK
    assert all(row.fix == "" for row in rows.values() if row.result is Result.OK)


@pytest.mark.parametrize(
    ("flaw", "check", "value", "fix"),
    [
        ("off", "answers", "no answer from 10.0.0.2", "look at power and cable"),
        ("frozen", "rate", "one stamp in 30 readings: it stands still", "see that the device still sends"),
        ("half the rate", "rate", "5 Hz", "look at the network and at the controller's own rate"),
        ("jitter", "jitter", "median 100 ms, p99 300 ms", "FIFO scheduling for this user"),
        ("future", "stamps", "median -3e+03 ms, worst -3e+03 ms old", "another clock: the driver must say"),
        ("epoch", "stamps", "median 1e+12 ms, worst 1e+12 ms old", "another clock: the driver must say"),
        ("late", "stamps", "median 500 ms, worst 500 ms old", "it comes late: see network"),
        ("back", "stamps", "go backwards", "its clock is set while it runs"),
        ("read waits", "read call", "median 80 ms, p99 80 ms", "read must return the newest at once"),
        ("wild values", "values", "observation.state.point.x = 9 m, allowed [-2, 2]", "mend what produced it"),
        ("stopped", "emergency stop", "pressed", "see why it was pressed"),
        ("command waits", "command", "10 to stay where it is: worst 150 ms", "the driver's command waits"),
    ],
)
def test_a_flaw_of_the_robot_is_found_with_what_to_fix(flaw: str, check: str, value: str, fix: str) -> None:
    result, found, advice = not_ok(tree_of(flaw))[check]
    assert (result, found) == (Result.FAIL, value)
    assert advice.startswith(fix)


def test_a_velocity_that_is_absent_is_told_and_forgiven() -> None:
    assert not_ok(tree_of("no velocity")) == {
        "velocity": (
            Result.WARN,
            "absent",
            "policies see places only; if the robot measures speed, its driver should say it",
        )
    }


def test_a_reading_beyond_the_guards_limits_ends_the_robots_part_and_not_the_cameras() -> None:
    tree = tree_of(cameras={"front": ""}) | {"guard": {"state_limits": {"point.x": [-0.1, 0.1]}}}
    rows = rows_of(tree)
    assert rows["robot", "guard"].value == "sets state_limits"
    reading = rows["robot", "reading"]
    assert (reading.result, reading.value) == (Result.FAIL, "point: point.x = 0.5 m, allowed [-0.1, 0.1]")
    assert reading.fix == "look at the robot, bring it back inside, start again"
    assert rows["camera front", "rate"].result is Result.OK
    assert rows["together", "reading"].result is Result.FAIL


@pytest.mark.parametrize(
    ("robot", "allow", "result", "value"),
    [
        ({"on_silence": "none"}, False, Result.FAIL, "goes on moving"),
        ({"on_silence": "none"}, True, Result.WARN, "goes on moving"),
        ({"on_silence": "out_of_band", "halt_command": ["sh", "-c", "exit"]}, False, Result.OK, "halted by sh -c exit"),
        ({"on_silence": "out_of_band", "halt_command": ["no-such-halt"]}, False, Result.FAIL, "halted by no-such-halt"),
        ({"on_silence": "out_of_band"}, False, Result.FAIL, "halted by no command"),
    ],
)
def test_what_silence_does_is_judged(robot: dict[str, Any], allow: bool, result: Result, value: str) -> None:
    row = rows_of(tree_of(**robot), allow_no_silence_stop=allow)["robot", "on silence"]
    assert (row.result, row.value) == (result, value)


@pytest.mark.parametrize(
    ("flaw", "check", "value", "fix"),
    [
        ("unplugged", "answers", "no camera 042", "look at its cable"),
        ("slow", "rate", "5 Hz", "more light, a USB 3 port of its own"),
        ("stale", "rate", "17.84 Hz, 750 calls found it stale", "more light"),
        ("frozen", "rate", "one stamp in 1500 readings: it stands still", "see that the device still sends"),
        ("drops", "drops", "27 of 91 frames", "a port and a cable of its own"),
        ("waits", "read call", "median 50 ms, p99 50 ms", "read must return the newest at once"),
        ("small", "reading", "observation.images.front is uint8[4, 8, 3], allowed uint8[8, 8, 3]", "mend"),
    ],
)
def test_a_flaw_of_a_camera_is_found_with_what_to_fix(flaw: str, check: str, value: str, fix: str) -> None:
    bad = not_ok(tree_of(cameras={"front": flaw, "wrist": ""}))
    result, found, advice = bad[f"camera front: {check}"]
    assert (result, found) == (Result.FAIL, value)
    assert advice.startswith(fix)
    assert not [check for check in bad if check.startswith("camera wrist")]


def test_irregular_frames_are_found() -> None:
    result, found, _ = not_ok(tree_of(cameras={"front": "jitter"}))["camera front: jitter"]
    assert result is Result.FAIL
    assert found.startswith("median 33.3 ms, p99 ")


@pytest.mark.parametrize(
    ("flaw", "value"), [("covered", "every pixel is equal"), ("stuck", "bit by bit the same in every frame")]
)
def test_a_covered_or_stuck_camera_is_told(flaw: str, value: str) -> None:
    result, found, _ = not_ok(tree_of(cameras={"front": flaw}))["camera front: pictures"]
    assert (result, found) == (Result.WARN, value)


def test_a_camera_that_draws_when_asked_is_not_accused_of_drops() -> None:
    tree = tree_of() | {"cameras": {"front": {"name": "fake"}}}
    assert [check for about, check in rows_of(tree) if about == "camera front"] == [
        "answers", "rate", "stamps", "read call", "pictures"
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["delta", "target"])
def test_nothing_moves_unless_it_may(command: str) -> None:
    rows = rows_of(tree_of(command=command))
    assert ("robot", "motion") not in rows
    assert rows["robot", "command"].value.startswith("10 to stay where it is")
    moved = rows_of(tree_of(command=command), move=True)
    assert moved["robot", "motion"].result is Result.OK
    assert moved["robot", "way back"].result is Result.OK
    assert moved["robot", "speed"].result is Result.OK


def test_the_smallest_motion_is_towards_the_middle_and_small() -> None:
    assert (
        rows_of(tree_of(), move=True)["robot", "motion"].value == "point.x goes -0.005 of -0.005 m, seen after 100 ms"
    )
    target = rows_of(tree_of(command="target"), move=True)["robot", "motion"].value
    assert target == "point.x goes -0.002 of -0.002 m, seen after 100 ms"


@pytest.mark.parametrize(
    ("flaw", "check", "value"),
    [
        ("stands", "motion", "point.x goes 0 of -0.04 m"),
        ("zeros for velocity", "speed", "exactly 0 while it moves"),
        ("places for velocity", "speed", "equal to the position"),
    ],
)
def test_a_flaw_that_only_motion_shows_is_found_in_motion(flaw: str, check: str, value: str) -> None:
    assert check not in not_ok(tree_of(flaw))
    result, found, fix = not_ok(tree_of(flaw), move=True)[check]
    assert (result, found) == (Result.FAIL, value)
    assert fix


def test_a_robot_that_does_not_come_back_is_found() -> None:
    result, found, _ = not_ok(tree_of("does not come back"), move=True)["way back"]
    assert (result, found) == (Result.FAIL, "0.005 m from its start")


def test_a_command_whose_meaning_is_unknown_is_not_sent() -> None:
    bad = not_ok(tree_of(command="effort"), move=True)
    assert bad["command"][:2] == (Result.SKIP, "none sent: none surely leaves it where it is")
    assert bad["motion"][0] is Result.SKIP


def test_a_robot_that_nothing_stops_is_sent_nothing_without_leave() -> None:
    bad = not_ok(tree_of(on_silence="none"), allow_no_silence_stop=True)
    assert bad["command"][0] is Result.SKIP


def test_a_robot_whose_stop_cannot_be_read_says_so() -> None:
    tree = {"robot": {"name": "fake"}, "task": {"name": "fake"}}
    row = rows_of(tree)["robot", "emergency stop"]
    assert (row.result, row.value) == (Result.SKIP, "not readable on this robot")


def test_each_stage_is_said_before_it_is_entered_and_parts_can_be_left_out() -> None:
    tree = tree_of("off", cameras={"front": ""})
    heard = said(tree)
    assert {"skip": "robot"} in heard
    assert {"about": "camera front", "stage": "opening"} in heard
    again = [one for one in said(tree_of(cameras={"front": ""}), skip=["robot"], done=["camera front"]) if "row" in one]
    assert again == []


def test_a_cell_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"robot\.name = nobody"):
        said({"robot": {"name": "nobody"}, "task": {"name": "still"}})
