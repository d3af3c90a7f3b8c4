"""Who acts: the first of the order that keeps the deadline, without flapping."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.inference.choice import Candidate, Chooser
from edge.inference.config import InferenceConfig

CONFIG = InferenceConfig(slack=0.2, settle_s=2.0)
KINDS = ("cloud", "site", "edge")


def seen(**p95_s: float | None) -> list[Candidate]:
    """Candidates with a deadline of 1 s; a name begins with its kind."""
    return [
        Candidate(name=name, kind=name.rstrip("0123456789"), p95_s=took_s, deadline_s=1.0)
        for name, took_s in p95_s.items()
    ]


def test_the_first_of_the_order_that_keeps_the_deadline_acts() -> None:
    assert Chooser(CONFIG).choose(seen(edge=0.1, site=0.1, cloud=0.1), 0.0).name == "cloud"
    assert Chooser(CONFIG).choose(seen(edge=0.1, site=0.1, cloud=0.9), 0.0).name == "site"
    assert Chooser(CONFIG).choose(seen(edge=0.1, site=None, cloud=2.0), 0.0).name == "edge"
    reverse = InferenceConfig(prefer=("edge", "site", "cloud"))
    assert Chooser(reverse).choose(seen(edge=0.1, site=0.1, cloud=0.1), 0.0).name == "edge"


def test_a_kind_that_is_not_in_the_order_never_acts() -> None:
    assert Chooser(InferenceConfig(prefer=("site",))).choose(seen(cloud=0.1, edge=0.1), 0.0).name == ""


def test_of_two_of_one_kind_the_quicker_acts() -> None:
    assert Chooser(CONFIG).choose(seen(site1=0.3, site2=0.2), 0.0).name == "site2"


def test_entering_takes_slack_and_staying_does_not() -> None:
    chooser = Chooser(CONFIG)
    assert chooser.choose(seen(cloud=0.81), 0.0).name == ""
    assert chooser.choose(seen(cloud=0.8), 0.1).name == "cloud"
    assert chooser.choose(seen(cloud=1.0), 0.2).name == "cloud"
    assert chooser.choose(seen(cloud=1.01), 0.3).name == ""


def test_a_place_that_fails_or_dies_is_left_at_once_for_the_next() -> None:
    for failing in (1.5, None):
        chooser = Chooser(CONFIG)
        chooser.choose(seen(cloud=0.1, site=0.1, edge=0.1), 0.0)
        assert chooser.choose(seen(cloud=failing, site=0.1, edge=0.1), 0.1).name == "site"
    chooser = Chooser(CONFIG)
    chooser.choose(seen(cloud=0.1, edge=0.1), 0.0)
    assert chooser.choose(seen(edge=0.1), 0.1).name == "edge"  # the run names it no more


def test_a_place_that_failed_comes_back_when_it_was_fit_for_long_enough_without_a_break() -> None:
    chooser = Chooser(CONFIG)
    chooser.choose(seen(cloud=0.1, edge=0.1), 0.0)
    chooser.choose(seen(cloud=None, edge=0.1), 1.0)
    assert chooser.choose(seen(cloud=0.1, edge=0.1), 2.0).name == "edge"
    assert chooser.choose(seen(cloud=0.9, edge=0.1), 3.0).name == "edge"  # a break
    assert chooser.choose(seen(cloud=0.1, edge=0.1), 3.5).name == "edge"
    assert chooser.choose(seen(cloud=0.1, edge=0.1), 5.4).name == "edge"
    assert chooser.choose(seen(cloud=0.1, edge=0.1), 5.5).name == "cloud"


def test_even_when_nobody_else_is_there_it_must_have_been_fit_for_long_enough() -> None:
    chooser = Chooser(CONFIG)
    chooser.choose(seen(cloud=0.1), 0.0)
    chooser.choose(seen(cloud=None), 1.0)
    assert chooser.choose(seen(cloud=0.1), 1.5).name == ""
    assert chooser.choose(seen(cloud=0.1), 3.5).name == "cloud"


def test_a_better_place_takes_over_only_after_it_was_fit_for_long_enough() -> None:
    chooser = Chooser(CONFIG)
    chooser.choose(seen(edge=0.1, cloud=None), 0.0)
    assert chooser.choose(seen(edge=0.1, cloud=0.1), 1.0).name == "edge"
    assert chooser.choose(seen(edge=0.1, cloud=0.1), 2.9).name == "edge"
    assert chooser.choose(seen(edge=0.1, cloud=0.1), 3.0).name == "cloud"


def test_the_choice_says_why_and_stays_the_same_object_while_it_stays() -> None:
    chooser = Chooser(CONFIG)
    first = chooser.choose(seen(cloud=0.1, edge=None), 0.0)
    assert first.reason == "cloud p95 100 ms, allowed 1000"
    assert chooser.choose(seen(cloud=0.2, edge=None), 0.1) is first
    after = chooser.choose(seen(cloud=None, edge=0.01), 0.2)
    assert after.reason == "edge p95 10 ms, allowed 1000; cloud no answer, allowed 1000"
    assert chooser.choose(seen(cloud=None, edge=None), 0.3).reason == (
        "nobody keeps the deadline: cloud no answer, allowed 1000; edge no answer, allowed 1000"
    )


TIMES = st.one_of(st.none(), st.floats(0.0, 1.6))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1.5), TIMES, TIMES, TIMES), min_size=5, max_size=60))
def test_nothing_flaps(history: list[tuple[float, float | None, float | None, float | None]]) -> None:
    chooser, now_s, before = Chooser(CONFIG), 0.0, ""
    failed_s: dict[str, float] = {}
    changes = 0
    for step_s, *times in history:
        now_s += step_s
        candidates = seen(**dict(zip(KINDS, times, strict=True)))
        took = {c.name: c.p95_s for c in candidates}
        name = chooser.choose(candidates, now_s).name
        if name:
            now_took = took[name]
            assert now_took is not None
            assert now_took <= (1.0 if name == before else 0.8)
        if name != before:
            changes += 1
            was = took.get(before)
            if before and (was is None or was > 1.0):
                assert now_s - failed_s.get(before, -10.0) >= CONFIG.settle_s, f"{before} fails twice"
                failed_s[before] = now_s
            else:
                assert not before or KINDS.index(name) < KINDS.index(before), "left without need"
            assert now_s - failed_s.get(name, -10.0) >= CONFIG.settle_s, f"{name} comes back too early"
        before = name
    assert changes <= 1 + 5 * (1 + now_s / CONFIG.settle_s)
