"""The watches in the control loop: what is commanded, recorded and said while one fires, and how it goes on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.acting import Proposal
from edge.loop import control
from edge.orders import PartReport, Report, State
from edge.safeguard import Safeguard
from edge.safety import Rule, SafetyConfig, Verdict, WatchConfig, WatchFired
from edge.senses import Senses
from edge.stop import ListeningClock, Outcome
from hal.cell import Observation
from hal.robot import RobotState
from hal.teleop import TeleopReading
from tests.edge.rig import Bench, bench
from user_rl.errors import ConfigError, RobotFault
from user_rl.rows import Source

LEFT = np.full(2, -0.5, np.float32)


class Silent:
    """See edge.acting.Actor. Proposes 0.1, but not at the asks that `silent` names."""

    def __init__(self, silent: Callable[[int], bool]) -> None:
        self._silent, self._asked = silent, 0

    def begin(self) -> None: ...

    def propose(self, seen: Observation, *, explore: bool) -> Proposal | None:
        self._asked += 1
        return None if self._silent(self._asked - 1) else Proposal(np.full(2, 0.1, np.float32), 7, bytes(16))


def silence(b: Bench, silent: Callable[[int], bool]) -> None:
    """The bench's policy is replaced by one that may be silent."""
    actor, plan = Silent(silent), b.desk.next_plan
    b.desk.next_plan = lambda: None if (p := plan()) is None else replace(p, actor=actor)  # type: ignore[method-assign]


def takes_over(n: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"action": LEFT, "is_intervention": True, **changes}


def test_a_silent_policy_is_held_where_it_is_and_goes_on_without_a_row_for_it() -> None:
    with bench(max_steps=3) as b:
        silence(b, lambda n: 1 <= n < 11)
        said: list[State] = []
        b.clock.at(0.91, lambda: said.append(b.report().state))
        b.stop_after(1.3)
        b.run()
        rows, report = b.rows(), b.report()
    assert rows["stamp.action"][:3].tolist() == pytest.approx([1000.0, 1001.1, 1001.2])
    np.testing.assert_allclose(rows["observation.state"][:3, 0], [0.0, 0.1, 0.2], atol=1e-6)
    assert said == [State.HELD]
    assert (report.fired, report.unserved) == (1, 10)


def test_a_policy_that_stays_silent_is_halted_its_episode_cut_and_asked_again_after_growing_rests() -> None:
    with bench(max_steps=3) as b:
        silence(b, lambda n: n >= 1)
        reasons: list[tuple[State, str]] = []
        b.clock.at(6.2, lambda: reasons.append((b.report().state, b.report().reason)))
        b.stop_after(16.0)
        b.run()
        rows = b.rows()
    assert reasons == [(State.HALTED, "nothing was proposed for 5.6 s, allowed 0.5 s")]
    assert len(rows) == 1  # of the first episode; later ones have no step
    times = [call for call in b.calls if call in ("reset", "halt")]
    assert times[:4] == ["reset", "halt", "reset", "halt"]
    assert b.calls.count("reset") == 3  # after 1 s, and after 2 s more


def test_letting_go_of_the_enabling_device_stops_the_robot_at_once_until_it_is_held_again() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, Any]:
        if n in (1, 2):
            return takes_over(n)
        return takes_over(n, is_enabled=False) if n in (3, 4) else takes_over(n) if n == 5 else {}

    with bench(max_steps=5, script=script) as b:
        b.stop_after(0.7)
        b.run()
        rows = b.rows()[:5]
    assert rows["source"].tolist() == [0, Source.TELEOP, Source.TELEOP, Source.TELEOP, Source.POLICY]
    assert rows["stamp.action"].tolist() == pytest.approx([1000.0, 1000.1, 1000.2, 1000.5, 1000.6])
    np.testing.assert_allclose(rows["observation.state"][3, 0], 0.1 - 0.5 - 0.5, atol=1e-6)


def test_a_device_that_nobody_holds_lets_the_policy_act_and_never_acts_itself() -> None:
    with bench(max_steps=3, script=lambda n, demonstrate: takes_over(n, is_enabled=False)) as b:
        b.stop_after(0.3)
        b.run()
        rows = b.rows()
    assert rows["source"][:3].tolist() == [Source.POLICY] * 3
    assert not rows["is_intervention"].any()
    assert b.report().fired == 0


def test_a_takeover_whose_readings_stop_coming_is_held() -> None:
    def script(n: int, demonstrate: bool) -> dict[str, Any]:
        return takes_over(n, stamp_s=1000.0) if n < 6 else {}

    with bench(max_steps=5, script=script) as b:
        b.stop_after(0.7)
        b.run()
        rows = b.rows()[:5]
    assert rows["source"].tolist() == [Source.TELEOP] * 4 + [Source.POLICY]
    assert rows["stamp.action"].tolist() == pytest.approx([1000.0, 1000.1, 1000.2, 1000.3, 1000.6])


def test_an_old_reading_of_the_robot_halts_it_until_there_are_fresh_ones() -> None:
    with bench(max_steps=9) as b:
        fresh, old = b.robot.read, [0.0]
        b.robot.read = lambda: RobotState(stamp_s=fresh().stamp_s - old[0], values=b.robot.position)  # type: ignore[method-assign]
        b.clock.at(0.35, lambda: old.__setitem__(0, 0.7))
        b.clock.at(3.0, lambda: old.__setitem__(0, 0.0))
        said: list[tuple[State, str]] = []
        b.clock.at(2.9, lambda: said.append((b.report().state, b.report().reason)))
        b.stop_after(3.6)
        b.run()
        rows = b.rows()
    assert said == [(State.HALTED, "the robot's reading is 0.7 s old, allowed 0.5 s")]
    assert b.calls.count("reset") == 2
    assert rows["episode"].tolist()[0:5] == [0, 0, 0, 0, 1]
    assert rows["stamp.action"][4] >= 1003.0


def test_a_slow_rule_scales_what_is_executed_and_keeps_the_proposal_beside_it() -> None:
    safety = SafetyConfig(link=WatchConfig(limit_s=1.0, rule=Rule.SLOW), slow_factor=0.5)
    with bench(max_steps=2, safety=safety) as b:
        b.order(heard_s=990.0)
        b.stop_after(0.2)
        b.run()
        rows = b.rows()
    np.testing.assert_allclose(rows["action"][:2, 0], 0.05, atol=1e-6)
    np.testing.assert_allclose(rows["action.proposed"][:2, 0], 0.1, atol=1e-6)
    assert rows["source"][:2].tolist() == [Source.POLICY] * 2


def test_a_fleet_that_is_not_heard_is_said_and_stops_nothing_by_default() -> None:
    with bench(max_steps=6) as b:
        b.order(heard_s=900.0)
        b.clock.at(0.5, lambda: said.append((b.report().state, b.report().reason)))
        said: list[tuple[State, str]] = []
        b.stop_after(0.6)
        b.run()
        assert len(b.rows()) == 7
    assert said[0][1].startswith("the fleet was not heard for 1")
    assert said[0][0] is State.RUNNING


class Homely:
    """A task that knows its way home."""

    has_home = True

    def __init__(self, b: Bench) -> None:
        self._task, self._calls = b.task, b.calls
        self.name, self.max_steps, self.reset, self.judge = "homely", 9, b.task.reset, b.task.judge

    def go_home(self) -> None:
        self._calls.append("home")


def test_the_rule_home_cuts_the_episode_goes_home_halts_and_waits_until_all_is_well() -> None:
    safety = SafetyConfig(link=WatchConfig(limit_s=1.0, rule=Rule.HOME))
    with bench(max_steps=9) as b:
        b.cell.task = Homely(b)
        b.desk.safeguard = Safeguard(b.cell, safety, b.shared.stop, clock=b.clock, free=False)
        b.order(heard_s=999.5)
        b.clock.at(5.0, lambda: b.order(heard_s=1005.0))
        b.stop_after(5.5)
        b.run()
        rows = b.rows()
    after = b.calls[b.calls.index("home") :]
    assert after[:2] == ["home", "halt"]
    assert b.calls.count("home") == 1
    assert b.calls.count("reset") == 2
    assert rows["stamp.action"][rows["episode"] == 1][0] >= 1005.0


def test_a_rule_home_without_a_way_home_is_refused() -> None:
    safety = SafetyConfig(link=WatchConfig(limit_s=1.0, rule=Rule.HOME))
    with pytest.raises(ConfigError, match=r"the task logged_task has none; give task\.home, or"), bench(safety=safety):
        pass


def test_a_camera_whose_frames_stop_is_named_and_the_robot_held() -> None:
    with bench() as b:
        guard = b.desk.safeguard
        guard.begin()
        names = ("observation.state", "observation.images.wrist", "observation.images.front")
        stamps = dict(zip(names, (1000.0, 999.5, 1000.0), strict=True))
        seen = Observation(values={"observation.state": np.zeros(2, np.float32)}, stamps_s=stamps)
        hand = TeleopReading(stamp_s=0.0, action=None)
        assert guard.allowed(LEFT, seen, hand, proposed=True, heard_s=0.0) is None
        assert guard.is_held
        assert guard.verdict.reason == "the newest frame of wrist is 0.5 s old, allowed 0.3 s"
        assert b.calls == ["command"]
        b.clock.advance(5.0)
        fresh = replace_stamps(seen, b.clock.now_s())
        with pytest.raises(WatchFired):
            guard.allowed(LEFT, fresh, hand, proposed=True, heard_s=0.0)


def replace_stamps(seen: Observation, now_s: float) -> Observation:
    """The robot is seen now, the cameras still then."""
    return Observation(values=seen.values, stamps_s={**seen.stamps_s, "observation.state": now_s})


@pytest.mark.parametrize("robot_open", [True, False])
def test_an_emergency_stop_within_a_period_ends_the_loop_with_the_robot_halted(robot_open: bool) -> None:
    with bench(max_steps=9) as b:
        stop = b.shared.stop
        stop.robot_open = robot_open
        b.pacer.clock = ListeningClock(b.clock, stop)
        b.clock.at(0.25, lambda: stop.post("emergency stop by me"))
        b.stop_after(1.0)
        if robot_open:
            with pytest.raises(RobotFault, match="emergency stop by me"):
                control(b.cell, b.desk, b.recorder, b.pacer)
            assert b.clock.now_s() <= 1000.27
            assert b.calls.count("command") == 3
        else:
            b.run()
        assert b.calls[-1] == "halt"
        assert (stop.pending, stop.outcome) == (False, Outcome.HALTED)


class Pendant:
    """A layer of a robot that tells how its emergency stop stands."""

    def __init__(self, robot: Any) -> None:  # noqa: ANN401
        self.robot, self.pressed, self.asked = robot, True, 0
        self.spec, self.read, self.command, self.halt = robot.spec, robot.read, robot.command, robot.halt

    def emergency_stop_pressed(self) -> bool:
        self.asked += 1
        return self.pressed


def test_no_episode_begins_while_the_robots_own_emergency_stop_is_pressed() -> None:
    with bench(max_steps=2) as b:
        pendant = Pendant(b.robot)
        b.cell.robot = pendant  # type: ignore[assignment]
        b.desk._senses = Senses(b.cell, b.clock)
        said: list[Report] = []
        asked: list[int] = []
        b.clock.at(2.9, lambda: asked.append(pendant.asked))
        b.clock.at(2.9, lambda: said.append(b.report()))
        b.clock.at(3.0, lambda: setattr(pendant, "pressed", False))
        b.stop_after(4.3)
        b.run()
        rows = b.rows()
    why = "its emergency stop is pressed; see why, then release it"
    assert (said[0].state, said[0].reason) == (State.NO_SENSOR, why)
    assert said[0].parts[0] == PartReport(name="robot", health="degraded", reason=why)
    assert asked == [3]  # at first, and once a second
    assert 1003.0 <= rows["stamp.action"][0] <= 1004.1
    assert b.report().parts[0].health == "ok"


def test_rests_after_cuts_grow_until_an_episode_has_come_to_its_end() -> None:
    with bench() as b:
        guard, halt = b.desk.safeguard, Verdict(Rule.HALT, "why")
        assert [guard.cut(halt) for _ in range(3)] == [1.0, 2.0, 4.0]
        assert max(guard.cut(halt) for _ in range(9)) == 30.0
        guard.finished()
        assert guard.cut(halt) == 1.0


def test_nothing_is_commanded_after_an_emergency_stop_was_ordered() -> None:
    with bench() as b:
        seen = Observation(
            values={"observation.state": np.zeros(2, np.float32)}, stamps_s={"observation.state": b.clock.now_s()}
        )
        b.shared.stop.robot_open = True
        b.shared.stop.post("by me")
        with pytest.raises(RobotFault, match="by me"):
            b.desk.safeguard.allowed(
                LEFT, seen, TeleopReading(stamp_s=0.0, action=None), proposed=True, heard_s=0.0
            )  # fmt: skip
        assert b.calls == []
