"""Who gets what: whole or queued, in order, near the robots, from lower priorities; and why not, in words."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hal.placement import LEARNER, ROBOTS, Entry, Grant, Plan, Request, plan
from hal.placement_reason import reason
from hal.resources import Capabilities, Resource, ResourceKind
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.errors import WireError


def cell(
    name: str, model: str = "panda", site: str = "lab", cameras: int = 0, owner: str = "", blocked: str = "",
    modes: tuple[str, ...] = (),
) -> Entry:  # fmt: skip
    can = Capabilities(cameras=("a", "b", "c")[:cameras], control_modes=modes)
    thing = Resource(id=name, kind=ResourceKind.CELL, model=model, site=site, owner=owner, capabilities=can)
    return Entry(resource=thing, role=ROBOTS if owner else "", blocked=blocked)


def gpu(name: str, site: str = "lab", node: str = "n", owner: str = "", role: str = "", blocked: str = "") -> Entry:
    thing = Resource(id=name, kind=ResourceKind.ACCELERATOR, model="h100", site=site, owner=owner)
    return Entry(resource=thing, role=role, node=node, blocked=blocked)


def ask(count: int = 1, learner: int = 0, near: int = 0, priority: int = 0, **robots: object) -> Ask:
    return Ask(
        robots=RobotsAsk(count=count, **robots), learner=AcceleratorsAsk(gpus=learner),  # type: ignore[arg-type]
        inference=AcceleratorsAsk(gpus=near, near="robots"), priority=priority,
    )  # fmt: skip


def placed(entries: list[Entry], **asks: Ask) -> Plan:
    return plan(entries, [Request(run=run, ask=a) for run, a in asks.items()], asks)


def got(made: Plan, run: str, role: str = ROBOTS) -> tuple[str, ...]:
    return made.grants[run].ids.get(role, ()) if run in made.grants else ()


A, B, C = cell("a"), cell("b"), cell("c")


def test_a_request_is_granted_exactly_what_it_misses() -> None:
    assert placed([A, B, C], r=ask(2)).grants == {"r": Grant(ids={ROBOTS: ("a", "b")})}
    assert got(placed([cell("a", owner="r"), B, C], r=ask(2)), "r") == ("b",)
    assert placed([cell("a", owner="r"), B], r=ask()).grants == {"r": Grant(ids={})}


def test_a_request_that_cannot_be_met_whole_gets_nothing_of_either_kind() -> None:
    made = placed([A, B, gpu("g")], r=ask(3, learner=1))
    assert made.grants == {}
    assert made.waiting["r"].position == 1
    assert made.kept == {"a": "r", "b": "r", "g": "r"}
    assert placed([A, gpu("g")], r=ask(1, learner=2)).grants == {}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ask(model="ur5e"), ("u",)), (ask(site="far"), ("f",)), (ask(cameras=2), ("two",)), (ask(cells=("b",)), ("b",)),
        (ask(control_mode="pose"), ("p",)), (ask(model="ur5e", cells=("b",)), ()), (ask(cameras=3), ()),
        (ask(2, cells=("c", "b")), ("c", "b")), (ask(model="ur5e", site="far"), ()),
        (ask(site="far", cells=("b",)), ()),
    ],
)  # fmt: skip
def test_model_site_cameras_mode_and_names_choose_the_cells(wanted: Ask, found: tuple[str, ...]) -> None:
    entries = [
        A, B, C, cell("u", model="ur5e"), cell("f", site="far"), cell("one", cameras=1), cell("two", cameras=2),
        cell("p", modes=("joint", "pose")),
    ]  # fmt: skip
    assert got(placed(entries, r=wanted), "r") == found


def test_what_can_do_more_is_left_for_whoever_needs_it() -> None:
    assert got(placed([cell("a", cameras=2), cell("b")], r=ask()), "r") == ("b",)


def test_robots_of_one_sort_and_accelerators_of_one_machine_go_together() -> None:
    mixed = [cell("a"), cell("b", model="ur5e"), cell("c", model="ur5e")]
    assert got(placed(mixed, r=ask(2)), "r") == ("b", "c")
    gpus = [A, gpu("g0", node="n0"), gpu("g1", node="n1"), gpu("g2", node="n1")]
    assert got(placed(gpus, r=ask(learner=2)), "r", LEARNER) == ("g1", "g2")


def test_what_is_blocked_or_held_by_others_is_not_granted() -> None:
    assert placed([cell("a", blocked="is quarantined"), cell("b", owner="other")], r=ask()).grants == {}
    assert placed([A, gpu("g", blocked="is lost")], r=ask(learner=1)).grants == {}


def test_what_the_run_holds_of_another_model_does_not_count() -> None:
    assert got(placed([cell("six", model="arm6", owner="r"), A], r=ask(model="panda")), "r") == ("a",)


def test_a_large_request_is_not_starved_by_a_later_small_one() -> None:
    made = placed([A], large=ask(2), small=ask())
    assert made.grants == {}
    assert made.waiting["small"].position == 2
    made = placed([A, gpu("g")], large=ask(2, learner=1), small=ask(learner=1, cells=("b",)))
    assert made.kept["g"] == "large"


def test_a_later_request_takes_what_the_earlier_one_cannot_use_or_does_not_need() -> None:
    made = placed([cell("six", model="arm6"), B], first=ask(2, model="panda"), second=ask(), third=ask())
    assert got(made, "second") == ("six",)
    assert "third" in made.waiting


def test_a_higher_priority_goes_first_and_equal_ones_in_their_order() -> None:
    made = placed([A], early=ask(), urgent=ask(priority=1), late=ask(priority=1))
    assert list(made.grants) == ["urgent"]
    assert [made.waiting[run].position for run in ("late", "early")] == [1, 2]


def test_inference_near_the_robots_is_on_their_site_and_all_robots_too() -> None:
    entries = [cell("a1", site="a"), cell("b1", site="b"), cell("b2", site="b"), gpu("ga", site="a"), gpu("gb", "b")]
    made = placed(entries, r=ask(2, near=1))
    assert made.grants["r"].ids == {ROBOTS: ("b1", "b2"), "inference": ("gb",)}
    assert made.waiting == {}
    assert placed(entries, r=ask(2, near=2)).grants == {}
    apart = [cell("a1", site="a"), gpu("gb", site="b")]
    assert placed(apart, r=ask(near=1)).grants == {}
    assert placed(apart, r=ask(learner=1)).grants


def test_inference_stays_near_the_robots_that_the_run_holds() -> None:
    entries = [cell("a1", site="a", owner="r"), gpu("ga", "a"), gpu("gb", "b")]
    assert got(placed(entries, r=ask(near=1)), "r", "inference") == ("ga",)
    assert "r" in placed([entries[0], entries[2]], r=ask(near=1)).waiting
    elsewhere = [entries[0], cell("b1", site="b"), entries[2]]
    assert placed(elsewhere, r=ask(near=1)).waiting["r"].needs[0][0].count == 0, "it has its robot"


def test_a_site_that_nobody_says_is_near_to_no_other() -> None:
    assert placed([cell("a", site=""), gpu("g", "lab")], r=ask(near=1)).grants == {}
    assert placed([cell("a", site=""), gpu("g", "")], r=ask(near=1)).grants


def test_the_learner_does_not_get_the_accelerator_that_inference_gets() -> None:
    assert placed([A, gpu("g")], r=ask(learner=1, near=1)).grants == {}
    made = placed([A, gpu("g"), gpu("h", "far")], r=ask(learner=1, near=1))
    assert made.grants["r"].ids == {ROBOTS: ("a",), "inference": ("g",), "learner": ("h",)}


def preempt(entries: list[Entry], wanted: Ask, **holders: Ask) -> dict[str, str]:
    return plan(entries, [Request(run="r", ask=wanted)], holders | {"r": wanted}).finish


LOW = Ask(preemptible=True, priority=-1)


def test_a_lower_priority_that_allows_it_is_asked_to_give_back_what_is_missing_and_no_more() -> None:
    held = [cell("a", owner="low"), cell("b", owner="low"), C]
    assert preempt(held, ask(2), low=LOW) == {"a": "r"}
    assert preempt(held, ask(2), low=replace(LOW, preemptible=False)) == {}
    assert preempt(held, replace(ask(2), priority=-1), low=LOW) == {}
    assert preempt(held, ask(2)) == {}, "a run of which nothing is known"
    assert preempt([cell("a", owner="low"), gpu("g", owner="low", role=LEARNER)], ask(learner=1), low=LOW) == {
        "a": "r", "g": "r",
    }  # fmt: skip


def test_nothing_is_asked_back_when_that_would_not_be_enough() -> None:
    assert preempt([cell("a", owner="low"), cell("b", owner="high")], ask(2), low=LOW, high=ask()) == {}
    assert preempt([cell("a", owner="low")], ask(learner=1), low=LOW) == {}
    assert preempt([cell("a", owner="low", blocked="is silent")], ask(), low=LOW) == {}


def test_the_lowest_priority_gives_back_first() -> None:
    held = [cell("a", owner="low"), cell("b", owner="lower")]
    assert preempt(held, ask(), low=LOW, lower=replace(LOW, priority=-2)) == {"b": "r"}


def test_nothing_is_asked_back_while_something_is_about_to_be_free() -> None:
    coming = replace(cell("a", blocked="has not confirmed its release"), coming=True)
    assert preempt([coming, cell("b", owner="low")], ask(), low=LOW) == {}
    assert preempt([coming, cell("b", owner="low")], ask(2), low=LOW) == {"b": "r"}


def test_two_that_wait_do_not_count_on_the_same_victim() -> None:
    held, low = [cell("a", owner="low"), cell("b", owner="low")], LOW
    made = plan(held, [Request(run=run, ask=ask()) for run in ("r", "s", "t")], {"low": low})
    assert made.finish == {"a": "r", "b": "s"}


def test_what_is_lost_is_replaced_and_given_back_only_then() -> None:
    lost = [cell("a", owner="r", blocked="is silent"), cell("b", owner="r")]
    assert placed([*lost, C], r=ask(2)).grants == {"r": Grant(ids={ROBOTS: ("c",)}, dropped=("a",))}
    waits = placed(lost, r=ask(2))
    assert waits.grants == {}
    assert waits.waiting["r"].position == 1
    lost_gpu = [cell("a", owner="r"), gpu("g", owner="r", role=LEARNER, blocked="is lost"), gpu("h")]
    assert placed(lost_gpu, r=ask(learner=1)).grants == {"r": Grant(ids={LEARNER: ("h",)}, dropped=("g",))}


def test_a_camera_that_breaks_costs_the_cell_only_if_the_run_needs_it_and_there_is_another() -> None:
    broken = replace(cell("a", cameras=1, owner="r"), degraded="camera b is broken")
    better = cell("b", cameras=2)
    assert placed([broken, better], r=ask(cameras=2)).grants == {"r": Grant(ids={ROBOTS: ("b",)}, dropped=("a",))}
    assert placed([broken, better], r=ask(cameras=1)).grants == {"r": Grant(ids={})}
    assert placed([broken], r=ask(cameras=2)).grants == {}


def test_a_run_that_has_begun_goes_on_with_fewer_and_takes_what_there_is() -> None:
    held = [cell("a", owner="r"), cell("b", owner="r", blocked="is silent")]
    made = placed(held, r=ask(3, min_count=1))
    assert made.grants == {"r": Grant(ids={})}
    assert made.waiting["r"].position == 1
    assert placed([*held, C], r=ask(3, min_count=1)).grants == {"r": Grant(ids={ROBOTS: ("c",)})}
    assert placed([A], r=ask(2, min_count=1)).grants == {}, "it has not begun"
    assert placed([*held, C], r=ask(4, min_count=3)).grants == {}, "fewer than it can do with"


def why(entries: list[Entry], run: str, **asks: Ask) -> str:
    return reason(run, entries, placed(entries, **asks))


def test_the_reason_says_how_many_of_what_and_what_stands_in_the_way() -> None:
    bad = cell("arm-3", blocked="is quarantined: camera wrist gives no frames")
    assert why([A, B, bad], "r", r=ask(3, model="panda", site="lab")) == (
        "2 of 3 panda at lab are free: arm-3 is quarantined: camera wrist gives no frames"
    )
    degraded = replace(cell("d", cameras=1), degraded="camera b is broken: no frames")
    assert why([degraded], "r", r=ask(cameras=2)) == (
        "0 of 1 cell with 2 cameras is free: d has 1 of 2 cameras: camera b is broken: no frames"
    )
    assert why([cell("a", owner="other")], "r", r=ask()) == "0 of 1 cell is free: a is held by other"
    assert why([], "r", r=ask(control_mode="pose")) == "0 of 1 cell in pose mode is free: no other is registered"
    assert why([A], "r", r=ask(2, cells=("a", "x"))) == "1 of 2 cells are free: x is not registered"


def test_the_reason_tells_of_accelerators_by_what_they_are_for() -> None:
    entries = [A, gpu("g", owner="other", role=LEARNER), gpu("h", "far")]
    assert why(entries, "r", r=ask(learner=2)) == "1 of 2 accelerators for the learner are free: g is held by other"
    assert why(entries, "r", r=ask(near=1)) == "0 of 1 accelerator for inference at lab is free: g is held by other"


def test_the_reason_tells_who_is_ahead_and_who_was_asked() -> None:
    assert why([A], "small", large=ask(2), small=ask()) == "1 ahead of it; 0 of 1 cell is free: a is kept for large"
    entries, wanted = [cell("a", owner="low")], ask()
    made = plan(entries, [Request(run="r", ask=wanted)], {"low": LOW})
    assert reason("r", entries, made) == "0 of 1 cell is free: a is held by low, which was asked for it"


def test_the_reason_stays_short() -> None:
    entries = [cell(f"arm-{i}", owner="other") for i in range(10)]
    assert why(entries, "r", r=ask()).endswith("arm-7 is held by other; and more")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RobotsAsk(count=0), "a request for 0 cells, allowed 1 to 2147483648 here; change count or cells"),
        (lambda: RobotsAsk(count=3, cells=("a", "b", "a")), "a request for 3 cells, allowed 1 to 2 here"),
        (lambda: RobotsAsk(count=2, min_count=3), "min_count = 3 of 2 cells, allowed 0 to count; change it"),
        (lambda: AcceleratorsAsk(gpus=-1), "a request for -1 gpus, allowed 0 or more; change it"),
        (lambda: AcceleratorsAsk(near="me"), "near = 'me', allowed robots or nothing; change it"),
        (lambda: Ask(priority=1001), "priority = 1001, allowed -1000 to 1000; change it"),
    ],
)
def test_a_request_that_can_never_be_met_is_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(WireError, match=re.escape(message)):
        make()


ENTRIES = st.lists(
    st.builds(
        lambda kind, site, owner, blocked, coming: (kind, site, owner, blocked, coming), st.booleans(),
        st.sampled_from(["a", "b"]), st.sampled_from(["", "", "p", "q"]), st.sampled_from(["", "", "no"]),
        st.booleans(),
    ), max_size=12,
)  # fmt: skip
ASKS = st.builds(
    ask, count=st.integers(1, 4), learner=st.integers(0, 2), near=st.integers(0, 2), priority=st.integers(-1, 1),
    site=st.sampled_from(["", "a"]), min_count=st.integers(0, 1),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(found=ENTRIES, asks=st.lists(ASKS, min_size=1, max_size=4))
def test_no_plan_gives_anything_twice_or_what_is_not_free(found: list[tuple[bool, str, str, str, bool]],
                                                          asks: list[Ask]) -> None:  # fmt: skip
    entries = [
        replace(cell(f"c{i}", site=site, owner=owner, blocked=blocked), coming=bool(blocked) and coming and not owner)
        if is_cell else gpu(f"g{i}", site, owner=owner, role=LEARNER if owner else "", blocked=blocked)
        for i, (is_cell, site, owner, blocked, coming) in enumerate(found)
    ]  # fmt: skip
    runs = [Request(run=f"r{i}" if i else "p", ask=a) for i, a in enumerate(asks)]
    made = plan(entries, runs, {"p": asks[0], "q": LOW})
    given_out = [id for grant in made.grants.values() for ids in grant.ids.values() for id in ids]
    free = {e.resource.id for e in entries if not e.blocked and not e.resource.owner}
    held = {e.resource.id: e.resource.owner for e in entries if not e.blocked and e.resource.owner}
    assert len(set(given_out)) == len(given_out)
    assert set(given_out) <= free
    assert set(given_out) <= set(made.kept) <= free
    assert all(held.get(id) == "q" for id in made.finish)
    assert {r.run for r in runs} == made.grants.keys() | made.waiting.keys()
    assert sorted(w.position for w in made.waiting.values()) == list(range(1, len(made.waiting) + 1))
