"""How long things took, and when to ask because of it."""

import math
import re

import pytest

from edge.inference.config import Fallback, InferenceConfig, Where
from edge.inference.latency import Asking, Recent, steps_of
from user_rl.config import build
from user_rl.errors import ConfigError


def test_the_percentile_is_of_what_is_not_too_old() -> None:
    recent = Recent(span_s=10.0)
    assert recent.p95_s(0.0) is None
    for i in range(100):
        recent.add(i / 100, now_s=i / 100)
    assert recent.p95_s(1.0) == 0.94
    recent.add(5.0, now_s=9.0)
    assert recent.p95_s(11.5) == 5.0
    assert recent.p95_s(19.5) is None


def test_one_of_a_few_is_no_rule_but_two_of_three_are() -> None:
    recent = Recent(5.0)
    recent.add(math.inf, 0.0)
    assert recent.p95_s(0.0) == math.inf
    recent.add(0.1, 0.0)
    assert recent.p95_s(0.0) == 0.1
    recent.add(math.inf, 0.0)
    assert recent.p95_s(0.0) == math.inf


def test_something_that_begins_with_a_step_is_usable_at_the_first_step_after_it() -> None:
    assert [steps_of(took_s, 0.1) for took_s in (0.0, 0.05, 0.1, 0.1001, 0.3)] == [1, 1, 1, 2, 3]


def asking(**changes: int) -> Asking:
    return Asking(InferenceConfig(**{"horizon": 10, "execute": 5, "margin": 1, **changes}))  # type: ignore[arg-type]


def test_the_first_step_of_an_episode_is_asked_for_at_once_and_only_once() -> None:
    made = asking()
    assert made.due(7, remaining=0, latency_steps=2)
    made.asked(7, math.inf)
    assert not made.due(8, remaining=0, latency_steps=2)


def test_the_next_is_asked_for_when_what_is_left_covers_no_more_than_latency_and_margin() -> None:
    made = asking(execute=9)
    made.asked(0, math.inf)
    assert made.answered(0)
    assert not made.due(6, remaining=4, latency_steps=2)
    assert made.due(7, remaining=3, latency_steps=2)


def test_and_at_the_latest_after_execute_steps() -> None:
    made = asking()
    made.asked(0, math.inf)
    made.answered(0)
    assert not made.due(4, remaining=6, latency_steps=1)
    assert made.due(5, remaining=5, latency_steps=1)


def test_the_same_step_is_not_asked_for_twice() -> None:
    made = asking()
    made.asked(0, math.inf)
    made.answered(0)
    assert not made.due(0, remaining=0, latency_steps=1)
    assert made.due(1, remaining=1, latency_steps=1)


def test_two_are_under_way_only_where_the_latency_is_more_than_half_the_horizon() -> None:
    for latency, two in ((5, False), (6, True)):
        made = asking(execute=4)
        made.asked(0, math.inf)
        assert made.due(4, remaining=0, latency_steps=latency) is two
        made.asked(4, math.inf)
        assert not made.due(8, remaining=0, latency_steps=latency)


def test_an_answer_counts_once_and_one_that_is_overdue_not_at_all() -> None:
    made = asking()
    made.asked(3, until_s=1.0)
    made.asked(8, until_s=2.0)
    assert made.overdue(0.9) == []
    assert made.overdue(1.0) == [3]
    assert not made.answered(3)
    assert made.answered(8)
    assert not made.answered(8)


def test_what_is_forgotten_is_not_under_way() -> None:
    made = asking()
    made.asked(3, math.inf)
    made.forget()
    assert not made.answered(3)
    assert made.due(4, remaining=0, latency_steps=1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"horizon": 1}, "inference.horizon = 1, allowed 2 to 200 steps; change it"),
        ({"horizon": 201}, "inference.horizon = 201, allowed 2 to 200 steps; change it"),
        ({"execute": 3}, "inference.execute = 3, allowed 4 to 9 with a horizon of 10: two requests under way cover no"),
        ({"execute": 10}, "inference.execute = 10, allowed 4 to 9 with a horizon of 10"),
        ({"pictures": "png"}, "inference.pictures = 'png', allowed raw, jpeg:1 to jpeg:100; choose one"),
        ({"pictures": "jpeg:101"}, "inference.pictures = 'jpeg:101', allowed raw, jpeg:1 to jpeg:100; choose one"),
        ({"prefer": ["cloud", "moon"]}, "inference.prefer = ['cloud', 'moon'], allowed each of cloud, site, edge once"),
        ({"prefer": ["cloud", "cloud"]}, "inference.prefer = ['cloud', 'cloud'], allowed each of cloud, site, edge"),
        ({"prefer": []}, "inference.prefer = [], allowed each of cloud, site, edge once"),
        ({"margin": -1}, "inference: allowed margin 0 or more, slack 0 to below 1, times above 0"),
        ({"slack": 1.0}, "inference: allowed margin 0 or more, slack 0 to below 1, times above 0"),
        ({"settle_s": 0.0}, "inference: allowed margin 0 or more, slack 0 to below 1, times above 0"),
        ({"where": "auto", "fallback": "hold"}, "inference.where = auto, allowed with fallback = local: the edge is"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(InferenceConfig, tree)


def test_by_default_the_policy_beside_the_robot_acts() -> None:
    assert InferenceConfig().near
    assert not InferenceConfig(where=Where.REMOTE, fallback=Fallback.HOLD).near
