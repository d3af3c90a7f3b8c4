"""The last one standing: it waits for control's end, and then does not give up after one try."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.last import TRIES, Survivor, halt_robot
from edge.orders import Card
from edge.shared import Shared, make_shared
from edge.stop import Outcome
from hal.robot import OnSilence

FAILS_ONCE = (
    "import pathlib, sys; p = pathlib.Path(sys.argv[1]); n = p.read_text(); p.write_text(n + 'x'); sys.exit(not n)"
)


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = make_shared(bytes(16))
    yield made
    os.close(made.fd)


def card(*command: str, on_silence: OnSilence = OnSilence.OUT_OF_BAND) -> Card:
    return Card(schema=b"", model="m", rate_hz=10.0, on_silence=on_silence, halt_command=command)


def outlived(shared: Shared) -> None:
    """What link does after halt and control were killed."""
    control = subprocess.Popen(["sleep", "60"])
    shared.control_pid = control.pid
    survivor = Survivor(shared)
    survivor.look()
    control.kill()
    survivor.outlive()
    survivor.close()
    control.wait()


def test_a_halt_command_that_fails_once_is_run_again(shared: Shared, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.write_text("")
    shared.card.post(card(sys.executable, "-c", FAILS_ONCE, str(runs)))
    shared.stop.robot_open = True
    shared.stop.post("by me")
    outlived(shared)
    assert runs.read_text() == "xx"
    assert (shared.stop.pending, shared.stop.outcome) == (False, Outcome.OUT_OF_BAND)


def test_one_that_never_works_is_given_up_and_a_person_told(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    shared.card.post(card("/nowhere/halt"))
    shared.stop.robot_open = True
    outlived(shared)
    assert caplog.text.count("THE ROBOT MAY STILL MOVE") == TRIES


def test_a_robot_that_control_had_closed_is_left_alone(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    shared.card.post(card("/nowhere/halt"))
    outlived(shared)
    assert caplog.text == ""


def test_a_robot_that_stops_by_itself_needs_no_command(caplog: pytest.LogCaptureFixture) -> None:
    assert halt_robot(card(on_silence=OnSilence.STOPS)) is Outcome.KILLED
    assert halt_robot(None) is Outcome.CLOSED
    assert caplog.text == ""


def test_only_a_halt_that_somebody_has_seen_counts_as_one() -> None:
    assert [o.name for o in Outcome if o.is_halt] == ["HALTED", "CLOSED", "OUT_OF_BAND"]
