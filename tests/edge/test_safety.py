"""The watches: when each fires, which rule holds, and that a firing is counted and said once."""

from dataclasses import replace

import pytest

from edge.safety import Rule, SafetyConfig, Signs, WatchConfig, Watchdogs

LIMIT_S = 0.5


def config(rule: Rule = Rule.HOLD, **changes: WatchConfig) -> SafetyConfig:
    one = WatchConfig(limit_s=LIMIT_S, rule=rule)
    return replace(SafetyConfig(state=one, cameras=one, operator=one, link=one), **changes)  # type: ignore[arg-type]


def made(safety: SafetyConfig) -> Watchdogs:
    dogs = Watchdogs(safety)
    dogs.begin(100.0)
    return dogs


@pytest.mark.parametrize(
    ("sign", "reason"),
    [
        ({"state_age_s": 0.6}, "the robot's reading is 0.6 s old, allowed 0.5 s"),
        ({"camera": "wrist", "camera_age_s": 0.7}, "the newest frame of wrist is 0.7 s old, allowed 0.5 s"),
        ({"takeover_age_s": 0.8}, "the operator's newest reading is 0.8 s old, allowed 0.5 s"),
        ({"silence_s": 0.9}, "the fleet was not heard for 0.9 s, allowed 0.5 s"),
        ({"is_dropped": True}, "the operator let go of the enabling device"),
    ],
)
def test_a_sign_beyond_its_limit_fires_its_watch_and_one_within_it_does_not(
    sign: dict[str, object], reason: str
) -> None:
    verdict = made(config()).look(Signs(**sign), 100.0)  # type: ignore[arg-type]
    assert (verdict.rule, verdict.reason) == (Rule.HOLD, reason)
    at_the_limit = {key: LIMIT_S for key, value in sign.items() if isinstance(value, float)}
    assert made(config()).look(Signs(**at_the_limit), 100.0).reason == ""  # type: ignore[arg-type]


def test_a_policy_that_proposes_nothing_is_held_and_then_halted() -> None:
    dogs = made(SafetyConfig())
    nothing = Signs(proposed=False)
    said = [dogs.look(nothing, at_s) for at_s in (100.4, 100.6, 105.5, 105.6)]
    assert [v.rule for v in said] == [Rule.NONE, Rule.HOLD, Rule.HOLD, Rule.HALT]
    assert said[1].reason == "nothing was proposed for 0.6 s, allowed 0.5 s"


def test_a_proposal_or_an_operator_who_drives_ends_the_policys_silence() -> None:
    for sign in (True, None):
        dogs = made(SafetyConfig())
        dogs.look(Signs(proposed=False), 101.0)
        assert dogs.look(Signs(proposed=sign), 106.5).reason == ""
        assert dogs.look(Signs(proposed=False), 106.9).reason == ""
        assert dogs.look(Signs(proposed=False), 107.1).rule is Rule.HOLD


@pytest.mark.parametrize("worse", [Rule.SLOW, Rule.HOLD, Rule.HOME, Rule.HALT])
def test_of_several_that_fire_the_worst_rule_holds(worse: Rule) -> None:
    order = [Rule.NONE, Rule.SLOW, Rule.HOLD, Rule.HOME, Rule.HALT]
    for milder in order[: order.index(worse)]:
        safety = config(
            link=WatchConfig(limit_s=0.1, rule=milder), cameras=WatchConfig(limit_s=0.1, rule=worse)
        )  # fmt: skip
        both = Signs(silence_s=1.0, camera="wrist", camera_age_s=1.0)
        assert made(safety).look(both, 100.0).rule is worse


def test_a_watch_whose_rule_is_none_is_only_said(caplog: pytest.LogCaptureFixture) -> None:
    verdict = made(SafetyConfig()).look(Signs(silence_s=31.0), 100.0)
    assert (verdict.rule, verdict.reason) == (Rule.NONE, "the fleet was not heard for 31 s, allowed 30 s")
    assert "none: the fleet was not heard for 31 s" in caplog.text


def test_each_firing_is_said_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    dogs, late = made(config()), Signs(state_age_s=1.0)
    for at_s, signs in enumerate((late, late, Signs(), late, late)):
        dogs.look(signs, 100.0 + at_s)
    assert dogs.fired == {"state": 2}
    assert caplog.text.count("hold: the robot's reading is 1 s old") == 2


def test_a_watch_that_rests_between_has_its_time_again() -> None:
    dogs = made(config(state=WatchConfig(limit_s=0.1, rule=Rule.HOLD, halt_after_s=2.0)))
    late = Signs(state_age_s=1.0)
    rules = [dogs.look(signs, 100.0 + k).rule for k, signs in enumerate((late, late, Signs(), late, late, late))]
    assert rules == [Rule.HOLD, Rule.HOLD, Rule.NONE, Rule.HOLD, Rule.HOLD, Rule.HALT]


def test_an_episode_starts_with_nothing_firing() -> None:
    dogs = made(SafetyConfig())
    dogs.look(Signs(proposed=False), 104.0)
    dogs.begin(110.0)
    assert dogs.look(Signs(proposed=False), 110.4).reason == ""


def test_a_look_between_episodes_counts_nothing() -> None:
    dogs = made(SafetyConfig())
    assert dogs.peek(Signs(state_age_s=1.0), 200.0).rule is Rule.HALT
    assert dogs.peek(Signs(), 200.0).reason == ""
    assert dogs.fired == {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WatchConfig(limit_s=-1.0, rule=Rule.HOLD), "limit_s = -1.0, allowed 0 or more; change it"),
        (lambda: WatchConfig(limit_s=1.0, rule=Rule.HOLD, halt_after_s=float("inf")), "halt_after_s = inf, allowed 0"),
        (lambda: SafetyConfig(slow_factor=1.0), "slow_factor = 1.0, allowed above 0 and below 1"),
        (lambda: SafetyConfig(policy=WatchConfig(limit_s=1.0, rule=Rule.SLOW)), "policy.rule = slow, allowed hold, "),
        (lambda: SafetyConfig(state=WatchConfig(limit_s=1.0, rule=Rule.NONE)), "state.rule = none, allowed hold, home"),
    ],
)
def test_a_configuration_that_would_not_be_safe_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_only_a_watch_that_says_so_needs_a_way_home() -> None:
    assert not SafetyConfig().goes_home
    assert SafetyConfig(link=WatchConfig(limit_s=1.0, rule=Rule.HOME)).goes_home
