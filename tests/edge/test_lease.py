"""A lease: an old token never acts again, and what was released stays so through every death."""

from dataclasses import replace
from pathlib import Path

import pytest

from edge.lease import Lease, Record
from user_rl.errors import StorageCorrupt
from user_rl.fleet import Assignment


def assignment(token: int = 3, *, wanted: bool = True, run: str = "run") -> Assignment:
    return Assignment(
        run=run, token=token, command_ttl_s=5.0, autonomy_s=900.0, experience_address="tcp://e", wanted=wanted,
        weights_address="tcp://w",
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease.json"


def test_a_cell_without_a_lease_may_not_act_and_has_nothing_to_release(path: Path) -> None:
    lease = Lease(path)
    assert lease.until_s == 0.0
    assert not lease.releasing


def test_a_lease_lasts_for_its_autonomy_after_the_heartbeat_was_sent(path: Path) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    assert lease.until_s == 1000.0
    assert lease.record == Record(token=3, run="run", experience_address="tcp://e", weights_address="tcp://w")
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_older_token_changes_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lease = Lease(path)
    lease.hear(assignment(3), 100.0)
    lease.hear(assignment(2, run="old"), 500.0)
    assert (lease.until_s, lease.record.run) == (1000.0, "run")
    assert "the fleet names token 2, allowed 3 or newer; it is ignored" in caplog.text


def test_a_lease_that_is_no_longer_wanted_ends_now_and_is_released_when_the_robot_is_halted(path: Path) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    lease.hear(assignment(wanted=False), 101.0)
    assert lease.until_s == 0.0
    assert lease.releasing
    lease.release()
    assert not lease.releasing
    assert Lease(path).record.released == 3


def test_a_lease_that_is_to_be_finished_goes_on_until_the_robot_is_halted_and_may_be_taken_back(path: Path) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    lease.hear(replace(assignment(), finish_episode=True), 101.0)
    assert (lease.until_s, lease.finish, lease.releasing) == (1001.0, True, True)
    lease.hear(assignment(), 102.0)
    assert (lease.finish, lease.releasing) == (False, False)


def test_a_released_token_never_acts_again_even_if_the_fleet_forgets(path: Path) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    lease.release()
    assert Lease(path, 1000.0).until_s == 0.0
    again = Lease(path)
    again.hear(assignment(), 200.0)
    assert again.until_s == 0.0
    again.hear(assignment(4), 200.0)
    assert again.until_s == 1100.0


def test_a_restarted_link_goes_on_with_the_lease_of_its_daemon_but_a_new_daemon_asks(path: Path) -> None:
    Lease(path).hear(assignment(), 100.0)
    assert Lease(path, 1000.0).until_s == 1000.0
    new = Lease(path)
    assert new.until_s == 0.0
    assert not new.releasing
    new.hear(assignment(), 200.0)
    assert new.until_s == 1100.0


def test_the_last_run_and_its_addresses_are_remembered_for_the_rows_of_the_spool(path: Path) -> None:
    Lease(path).hear(assignment(), 100.0)
    record = Lease(path).record
    assert (record.run, record.experience_address) == ("run", "tcp://e")


def test_a_cell_that_another_daemon_took_stops(path: Path) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    lease.lose()
    assert lease.until_s == 0.0
    assert not lease.releasing


def test_a_broken_file_is_not_taken_for_no_lease(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(StorageCorrupt, match="without it an old lease might act: ask for a new one, then remove"):
        Lease(path)


def test_a_lease_that_cannot_be_stored_is_not_used(path: Path) -> None:
    lease = Lease(path / "under" / "a" / "file")
    path.write_text("")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        lease.hear(assignment(), 100.0)
    assert lease.until_s == 0.0


def test_a_name_that_the_fleet_does_not_know_suspends_the_lease_until_it_answers_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(path)
    lease.hear(assignment(), 100.0)
    lease.suspend()
    lease.suspend()
    assert lease.until_s == 0.0
    assert caplog.text.count("this cell is not enrolled any more and halts; enrol it again") == 1
    assert not lease.releasing  # the fleet has not asked for it
    lease.hear(assignment(), 200.0)
    assert lease.until_s == 1100.0
