"""The control loop: the order of its calls, what its rows say, when it waits; and every way out halts the robot."""

import gc

import numpy as np
import pytest

from edge.config import Pace
from edge.desk import episode_seed
from edge.orders import Report, State
from edge.recorder import Heading
from tests.edge.rig import BOOT, ConstantPolicy, bench
from user_rl.errors import RobotFault, RobotUnreachable, SensorStale, SpecError
from user_rl.rows import Kind, Klass, Source

STEP = ["read", "act", "command", "judge"]


def test_an_episode_observes_proposes_commands_and_judges_in_this_order() -> None:
    with bench(max_steps=2) as b:
        b.stop_after(0.2)
        b.run()
    assert b.calls == ["reset", *STEP, *STEP, "read", "halt"]


def test_the_operator_is_asked_between_the_policy_and_the_command() -> None:
    with bench(max_steps=1, script=lambda n, demonstrate: {}) as b:
        b.stop_after(0.1)
        b.run()
    assert b.calls[:6] == ["reset", "begin", "read", "act", "poll", "command"]


def test_the_judgement_comes_when_the_period_of_its_command_is_over() -> None:
    with bench(max_steps=3) as b:
        times: list[float] = []
        b.task.watch = lambda call: times.append(b.clock.now_s())
        b.stop_after(0.3)
        b.run()
    assert times[1:] == pytest.approx([1000.1, 1000.2, 1000.3])


def test_an_episode_of_t_steps_leaves_t_plus_one_rows_and_is_truncated_at_its_limit() -> None:
    with bench(max_steps=3) as b:
        b.stop_after(0.3)
        b.run()
        rows = b.rows()
    assert rows["kind"].tolist() == [Kind.STEP] * 3 + [Kind.LAST]
    assert rows["step"].tolist() == rows["frame_index"].tolist() == [0, 1, 2, 3]
    assert rows["next.truncated"].tolist() == [0, 0, 1, 0]
    assert rows["next.done"].tolist() == [0, 0, 0, 0]
    assert rows["next.reward"].tolist() == [1, 2, 3, 0]


def test_a_task_that_cuts_an_episode_short_truncates_it() -> None:
    with bench(max_steps=9) as b:
        b.task.cuts_at = 2
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    assert rows["next.truncated"].tolist() == [0, 1, 0]
    assert rows["next.done"].tolist() == [0, 0, 0]


def test_done_reward_and_success_belong_to_the_step_that_they_follow() -> None:
    with bench(max_steps=9, succeeds_at=2) as b:
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    assert rows["next.done"].tolist() == [0, 1, 0]
    assert rows["next.success"].tolist() == [0, 1, 0]
    assert rows["next.truncated"].tolist() == [0, 0, 0]
    assert rows["next.reward"].tolist() == [1, 2, 0]


def test_a_row_holds_what_was_seen_before_its_command_even_if_the_driver_reuses_its_buffer() -> None:
    with bench(max_steps=2) as b:
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    np.testing.assert_allclose(rows["observation.state"][:, 0], [0.0, 0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(rows["action"][:, 0], [0.1, 0.1, 0.0], atol=1e-6)
    np.testing.assert_allclose(rows["action.sent"], rows["action"] / 2, atol=1e-6)
    assert rows["stamp.observation.state"].tolist() == pytest.approx([1000.0, 1000.1, 1000.2])


def test_a_row_says_under_which_lease_and_weights_it_was_recorded() -> None:
    with bench(max_steps=1) as b:
        b.order(token=7, clock_offset_s=2.5)
        b.stop_after(0.1)
        b.run()
        row = b.rows()[0]
    assert (row["run"], row["token"], row["task"]) == (b"run", 7, b"logged_task")
    assert (row["version"], bytes(row["version_hash"])) == (1, bytes.fromhex(f"{1:064x}")[:16])
    assert (row["klass"], row["source"], row["clock_offset_s"]) == (Klass.ONLINE, Source.POLICY, 2.5)


def test_an_intervention_is_marked_and_the_policys_proposal_is_kept_beside_it() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, object]:
        return {"action": np.full(2, -0.5, np.float32), "is_intervention": True} if n == 1 else {}

    with bench(max_steps=3, script=script) as b:
        b.stop_after(0.3)
        b.run()
        rows = b.rows()[:3]
    assert rows["is_intervention"].tolist() == [0, 1, 0]
    assert rows["source"].tolist() == [Source.POLICY, Source.TELEOP, Source.POLICY]
    np.testing.assert_allclose(rows["action"][:, 0], [0.1, -0.5, 0.1], atol=1e-6)
    np.testing.assert_allclose(rows["action.proposed"][:, 0], [0.1, 0.1, 0.1], atol=1e-6)
    assert set(rows["klass"].tolist()) == {Klass.ONLINE}


def drives(n: int, demonstrate: bool) -> dict[str, object]:
    return {"action": np.full(2, 0.3, np.float32), "is_intervention": True} if demonstrate else {}


def test_a_demonstration_is_driven_by_the_operator_alone_and_has_its_own_class() -> None:
    with bench(max_steps=9, succeeds_at=2, script=drives) as b:
        b.order(demonstrations=1, weights="")
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    assert b.calls[:2] == ["reset", "demonstrate"]
    assert "act" not in b.calls
    assert set(rows["klass"].tolist()) == {Klass.DEMONSTRATION}
    assert rows["is_intervention"].tolist() == [1, 1, 0]
    assert rows["version"].tolist() == [0, 0, 0]
    assert rows["action.proposed"].tolist() == [[0, 0]] * 3


def test_as_many_successful_demonstrations_are_recorded_as_the_cloud_has_not_counted_yet() -> None:
    with bench(max_steps=9, succeeds_at=1, script=drives) as b:
        b.order(demonstrations=2)
        b.clock.at(0.25, lambda: b.order(demonstrations=1, acknowledged=1))  # it has counted the first of them
        b.clock.at(0.35, lambda: b.order(demonstrations=1, acknowledged=3))  # both, and wants one more
        b.stop_after(0.55)
        b.run()
        rows = b.rows()
    starts = rows[rows["frame_index"] == 0]
    shown, online = Klass.DEMONSTRATION, Klass.ONLINE
    assert starts["klass"].tolist() == [shown, shown, online, online, shown, online]


def test_a_failed_demonstration_keeps_its_class_and_does_not_count() -> None:
    with bench(max_steps=1, script=drives) as b:
        b.order(demonstrations=1)
        b.stop_after(0.3)
        b.run()
        rows = b.rows()
    assert rows["klass"].tolist() == [Klass.DEMONSTRATION] * 6
    assert not rows["next.success"].any()


def test_a_demonstration_whose_operator_has_not_begun_moves_nothing_and_records_nothing() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, object]:
        return {} if n < 3 else drives(n, demonstrate)

    with bench(max_steps=2, script=script) as b:
        b.order(demonstrations=1)
        b.stop_after(0.5)
        b.run()
        rows = b.rows()
    assert b.calls.count("poll") == 5
    assert b.calls.count("command") == 2
    assert len(rows) == 3


def test_without_an_operator_demonstrations_are_not_attempted() -> None:
    with bench(max_steps=1) as b:
        b.order(demonstrations=3)
        b.stop_after(0.1)
        b.run()
        assert set(b.rows()["klass"].tolist()) == {Klass.ONLINE}


@pytest.mark.parametrize(
    ("event", "done", "truncated", "success", "reward"),
    [
        ("success", 1, 0, 1, 1.0),
        ("failure", 1, 0, 0, 0.0),
        ("terminate_episode", 0, 1, 0, 1.0),
        ("rerecord_episode", 0, 1, 0, 1.0),
    ],
)
def test_the_operator_ends_an_episode(event: str, done: int, truncated: int, success: int, reward: float) -> None:
    with bench(max_steps=9, script=lambda n, demonstrate: {event: True}) as b:
        b.stop_after(0.1)
        b.run()
        row = b.rows()[0]
    assert (row["next.done"], row["next.truncated"], row["next.success"]) == (done, truncated, success)
    assert row["next.reward"] == reward


def test_new_weights_act_from_the_next_episode_on() -> None:
    with bench(max_steps=3) as b:
        b.clock.at(0.1, lambda: b.order(weights="w2", weights_number=2))
        b.stop_after(0.6)
        b.run()
        rows = b.rows()
    assert rows["version"].tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    np.testing.assert_allclose(rows["action"][4:7, 0], 0.2, atol=1e-6)


def test_weights_that_cannot_be_loaded_leave_the_version_before_in_charge(caplog: pytest.LogCaptureFixture) -> None:
    with bench(max_steps=1) as b:
        b.clock.at(0.05, lambda: b.order(weights="w3", weights_number=3))
        b.stop_after(0.3)
        b.run()
        assert set(b.rows()["version"].tolist()) == {1}
    assert caplog.text.count("w3 cannot be read; the robot goes on with the version before it") == 1


def test_the_policy_explores_unless_an_evaluation_is_ordered() -> None:
    with bench(max_steps=1) as b:
        b.clock.at(0.05, lambda: b.order(evaluate=True))
        b.stop_after(0.2)
        b.run()
        policy = b.policies["w1"]
    assert isinstance(policy, ConstantPolicy)
    assert policy.explored == [True, False]


@pytest.mark.parametrize(
    ("orders", "state"),
    [
        ({"token": 0}, State.NO_LEASE),
        ({"run": ""}, State.NO_LEASE),
        ({"lease_until_s": 999.0}, State.NO_LEASE),
        ({"weights": ""}, State.NO_WEIGHTS),
    ],
)
def test_what_is_missing_is_waited_for_with_the_robot_halted(orders: dict[str, object], state: State) -> None:
    with bench() as b:
        b.order(**orders)
        b.stop_after(0.05)
        b.run()
        report = b.shared.report.read()
    assert b.calls == ["halt", "halt"]
    assert report is not None
    assert report.state is state


def test_a_lease_that_comes_later_is_taken_up() -> None:
    with bench(lease=False, max_steps=1) as b:
        b.clock.at(1.0, lambda: b.order(run="r", token=1, boot=BOOT, lease_until_s=1e9, weights="w1", last_step=9))
        b.stop_after(1.05)
        b.run()
        assert len(b.rows()) == 2


def test_a_lease_that_ends_within_an_episode_truncates_it_and_halts() -> None:
    with bench(max_steps=9) as b:
        b.order(lease_until_s=1000.25)
        b.stop_after(1.0)
        b.run()
        rows = b.rows()
    assert rows["next.truncated"].tolist() == [0, 0, 1, 0]
    assert b.calls[-2:] == ["halt", "halt"]
    assert b.calls.count("command") == 3


def test_another_token_ends_the_episode_of_the_old_one() -> None:
    with bench(max_steps=9) as b:
        b.clock.at(0.15, lambda: b.order(token=2))
        b.stop_after(0.3)
        b.run()
        rows = b.rows()
    assert rows["token"].tolist() == [1, 1, 1, 2, 2]
    assert rows["episode"].tolist() == [0, 0, 0, 1, 1]


def test_another_stream_counts_from_zero_again() -> None:
    with bench(max_steps=1) as b:
        b.clock.at(0.05, lambda: b.order(generation=1, boot="11" * 16, run="other"))
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    assert rows["step"].tolist() == [0, 1, 0, 1]
    assert rows["episode"].tolist() == [0, 0, 0, 0]
    assert rows["run"].tolist() == [b"run"] * 2 + [b"other"] * 2


@pytest.mark.parametrize("weights", ["", "w3"])
def test_the_weights_of_one_run_never_act_in_another(weights: str) -> None:
    with bench(max_steps=1) as b:
        b.clock.at(0.05, lambda: b.order(generation=1, boot="11" * 16, run="other", weights=weights))
        b.stop_after(0.3)
        b.run()
        report = b.shared.report.read()
        assert set(b.rows()["run"].tolist()) == {b"run"}
    assert report is not None
    assert report.state is State.NO_WEIGHTS


def test_simulated_time_stands_still_at_the_permit_within_an_episode() -> None:
    with bench(pace=Pace.FREE, max_steps=4) as b:
        b.order(last_step=1)
        waited: list[int] = []
        b.clock.at(0.5, lambda: waited.append(b.calls.count("command")))
        b.clock.at(0.5, lambda: b.order(last_step=3))
        b.stop_after(0.9)
        b.run()
        rows = b.rows()
    assert waited == [2]
    assert b.calls[:9] == ["reset", *STEP, *STEP]
    assert len(rows) == 5
    assert not rows["next.truncated"][:3].any()


def test_a_robot_in_real_time_never_waits_for_a_permit_within_an_episode() -> None:
    with bench(max_steps=4, hold_at_permit=True) as b:
        b.order(last_step=1)
        b.stop_after(2.0)
        b.run()
        report = b.shared.report.read()
        assert len(b.rows()) == 5
    assert report is not None
    assert report.state is State.NO_PERMIT


def test_a_robot_in_real_time_waits_between_episodes_only_if_told_so() -> None:
    with bench(max_steps=1) as b:
        b.order(last_step=-1)
        b.stop_after(0.2)
        b.run()
        assert len(b.rows()) == 4


def test_demonstrations_need_no_permit() -> None:
    with bench(pace=Pace.FREE, max_steps=9, succeeds_at=3, script=drives) as b:
        b.order(demonstrations=1, last_step=-1)
        b.stop_after(0.4)
        b.run()
        assert len(b.rows()) == 4


def fill(b: object, leave: int) -> None:
    recorder = b.recorder  # type: ignore[attr-defined]
    recorder.begin(Heading(generation=9, run="old", token=1, klass=Klass.ONLINE))
    while recorder.ring.free() > leave:
        recorder.ring.publish(9)


def test_a_full_ring_holds_the_robot_and_loses_nothing() -> None:
    with bench(max_steps=4) as b:
        fill(b, 3)
        b.clock.at(1.0, lambda: b.recorder.ring.release(100))
        b.clock.at(1.15, b.stop)
        b.run()
        report = b.shared.report.read()
        rows = b.rows()[-5:]
    assert rows["step"].tolist() == [0, 1, 2, 3, 4]
    assert rows["kind"].tolist() == [0, 0, 0, 0, 1]
    hold = b.calls.index("halt")
    assert b.calls[:hold].count("command") == 2
    assert report is not None
    assert report.held == 1
    assert rows["stamp.action"][2] == pytest.approx(1001.0, abs=0.01)


def test_the_closing_row_fits_even_when_the_wait_for_space_is_given_up() -> None:
    with bench(max_steps=4) as b:
        fill(b, 3)
        b.stop_after(0.5)
        b.run()
        assert b.recorder.ring.free() == 0
        assert b.rows()[-1]["kind"] == Kind.LAST


def test_no_episode_begins_without_space_for_it() -> None:
    with bench() as b:
        fill(b, 1)
        b.stop_after(0.1)
        b.run()
    assert "reset" not in b.calls


def test_a_stop_finishes_the_step_closes_the_episode_and_halts() -> None:
    with bench(max_steps=9) as b:
        b.stop_after(0.15)
        b.run()
        rows = b.rows()
    assert rows["next.truncated"].tolist() == [0, 1, 0]
    assert b.calls[-1] == "halt"


@pytest.mark.parametrize("error", [SpecError("x = nan"), RobotFault("pendant"), RobotUnreachable("cable"), KeyError()])
@pytest.mark.parametrize("call", ["read", "command"])
def test_every_error_of_the_cell_halts_it_and_keeps_the_rows_before(call: str, error: Exception) -> None:
    with bench(max_steps=9) as b:
        b.robot.fails[call] = (3, error)
        with pytest.raises(type(error)):
            b.run()
        rows = b.rows()
    assert b.calls[-1] == "halt"
    assert rows["step"].tolist() == [0, 1]


def test_an_old_reading_cuts_the_episode_halts_and_the_next_one_begins_after_a_rest() -> None:
    with bench(max_steps=2) as b:
        b.robot.fails["read"] = (2, SensorStale("the camera is 3 s old"))
        b.stop_after(1.25)
        b.run()
        rows = b.rows()
    assert rows["episode"].tolist() == [0, 1, 1, 1]
    assert rows["kind"].tolist() == [0, 0, 0, 1]
    assert b.calls.index("halt") < len(b.calls) - 1
    assert rows["stamp.action"][1] >= 1001.1


def test_a_camera_that_breaks_cuts_the_episode_and_the_next_begins_when_it_is_back() -> None:
    with bench(max_steps=2) as b:
        camera = b.add_camera("front")
        b.clock.at(0.05, lambda: setattr(camera, "unreachable", True))
        b.clock.at(5.0, lambda: setattr(camera, "unreachable", False))
        reports: list[Report] = []
        b.clock.at(3.0, lambda: reports.append(b.report()))
        b.stop_after(6.5)
        b.run()
        last = b.report()
    assert reports[0].state == State.NO_SENSOR
    assert "camera front: observation.images.front does not answer" in reports[0].reason
    health = {part.name: part.health for part in reports[0].parts}
    assert health == {"robot": "ok", "front": "broken"}
    assert {part.health for part in last.parts} == {"ok"}
    assert b.calls.count("reset") >= 2
    during = [call for call in b.calls if call in ("reset", "halt")]
    assert during[:2] == ["reset", "halt"]


def test_a_robot_that_is_to_finish_goes_on_to_the_episodes_end_and_begins_no_other() -> None:
    with bench(max_steps=5) as b:
        b.clock.at(0.15, lambda: b.order(finish=True))
        b.stop_after(2.0)
        b.run()
        rows, report = b.rows(), b.report()
    assert rows["episode"].tolist() == [0] * 6
    assert rows["next.truncated"].tolist() == [0, 0, 0, 0, 1, 0]
    assert report.state == State.NO_LEASE


def test_a_robot_that_is_gone_while_it_waits_is_noticed() -> None:
    with bench(lease=False) as b:
        b.robot.fails["read"] = (1, RobotUnreachable("the cable is out"))
        b.stop_after(5.0)
        with pytest.raises(RobotUnreachable, match="the cable is out"):
            b.run()
    assert b.clock.now_s() == pytest.approx(1001.0, abs=0.1)


def test_a_restarted_control_goes_on_with_the_next_step_and_another_start() -> None:
    with bench(max_steps=2) as b:
        b.robot.fails["read"] = (2, RobotUnreachable("gone"))
        with pytest.raises(RobotUnreachable):
            b.run()
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    assert rows["step"].tolist() == [0, 1, 2, 3]
    assert rows["episode"].tolist() == [0, 1, 1, 1]
    assert len(set(b.task.seeds)) == 2


def test_starts_differ_between_seeds_cells_boots_and_episodes_and_are_otherwise_the_same() -> None:
    seeds = {
        episode_seed(seed, cell, boot, episode)
        for seed in (0, 1) for cell in ("a", "b") for boot in ("00", "ff") for episode in (0, 1)
    }  # fmt: skip
    assert len(seeds) == 16
    assert episode_seed(3, "a", "0f", 5) == episode_seed(3, "a", "0f", 5)


def test_lateness_is_counted_and_reported() -> None:
    with bench(max_steps=2) as b:
        b.robot.works_s = 0.25
        b.stop_after(0.9)
        b.run()
        report = b.shared.report.read()
    assert (b.pacer.late, b.pacer.skipped) == (4, 6)
    assert report is not None
    assert (report.late, report.skipped) == (3, 4)


def test_the_pulse_is_promised_ahead_of_every_step_and_longer_ahead_of_a_reset() -> None:
    with bench(max_steps=2, pulse_s=0.7, reset_s=30.0) as b:
        promised: list[float] = []
        b.task.watch = lambda call: promised.append(b.shared.pulse.alive_until_s - b.clock.now_s())
        b.stop_after(0.2)
        b.run()
    assert promised == pytest.approx([30.0, 0.6, 0.6])


def test_garbage_is_not_collected_within_an_episode() -> None:
    with bench(max_steps=1) as b:
        enabled: list[bool] = []
        b.task.watch = lambda call: enabled.append(gc.isenabled())
        b.stop_after(0.1)
        b.run()
    assert enabled == [False, False]
    assert gc.isenabled()
    gc.unfreeze()
