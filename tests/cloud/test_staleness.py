import math
import re
from collections import deque

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.limiter import RateLimiter
from cloud.staleness import Fresh, FreshQueue, FreshState, Staleness, StalenessConfig, StalenessState, allowed
from user_rl.errors import ConfigError

ETAS, BATCHES = st.integers(0, 4), st.integers(1, 6)


@pytest.mark.slow
@given(ETAS, BATCHES, st.lists(st.sampled_from(["start", "accept", "reject", "consume"]), max_size=300))
def test_nothing_that_was_admitted_is_too_old_when_it_is_consumed(eta: int, batch: int, turns: list[str]) -> None:
    """The theorem, with every rollout kept as an object: consumed in the order of starting, B for each version."""
    staleness, version = Staleness(eta, batch, max_running=2 * batch), 0
    started: deque[dict[str, object]] = deque()
    for turn in turns:
        running = [rollout for rollout in started if rollout["end"] is None]
        if turn == "start" and staleness.capacity(version) >= 1:
            staleness.start()
            started.append({"version": version, "end": None})
        elif turn == "accept" and running:
            staleness.accept()
            running[-1]["end"] = "accepted"
        elif turn == "reject" and running:
            staleness.reject()
            running[0]["end"] = "rejected"
        started = deque(rollout for rollout in started if rollout["end"] != "rejected")
        ready = [rollout["end"] == "accepted" for rollout in list(started)[:batch]]
        if turn == "consume" and len(ready) == batch and all(ready):
            ages = [version - int(str(started.popleft()["version"])) for _ in range(batch)]
            assert max(ages) <= eta
            version += 1
        assert len(running) <= 2 * batch


@pytest.mark.slow
@given(ETAS, BATCHES, st.integers(0, 50), st.integers(0, 300), st.integers(0, 40))
def test_the_capacity_is_the_formula(eta: int, batch: int, version: int, accepted: int, running: int) -> None:
    staleness = Staleness(eta, batch, max_running=32)
    staleness.start(accepted)
    staleness.accept(accepted)
    staleness.start(running)
    wanted = min(32 - running, (eta + version + 1) * batch - (accepted + running))
    assert staleness.capacity(version) == max(0, wanted)


def test_a_rejected_rollout_leaves_its_place_to_another() -> None:
    staleness = Staleness(0, 2)
    staleness.start(2)
    assert staleness.capacity(0) == 0
    staleness.reject()
    assert staleness.capacity(0) == 1
    assert staleness.state.rejected == 1


def saved(staleness: Staleness) -> StalenessState:
    return msgspec.json.decode(msgspec.json.encode(staleness.state), type=StalenessState)


def test_a_resume_keeps_the_counts_and_admits_no_burst() -> None:
    before, after = Staleness(2, 10), Staleness(2, 10)
    before.start(70)
    before.accept(55)
    before.reject(5)
    after.resumed(5, saved(before))
    assert (after.state.accepted, after.state.rejected, after.running) == (55, 5, 0)
    assert after.capacity(5) == (2 + 5 + 1) * 10 - 55


@pytest.mark.slow
@given(ETAS, BATCHES, st.integers(0, 30), st.floats(0, 1e4), st.one_of(st.none(), st.integers(0, 10_000)))
def test_no_resume_admits_more_than_the_pipeline_holds_nor_less_than_a_batch(
    eta: int, batch: int, version: int, accepted: float, rows: int | None
) -> None:
    staleness = Staleness(eta, batch)
    staleness.resumed(version, StalenessState(origin=0.0, accepted=accepted), rows)
    assert batch <= staleness.capacity(version) <= (eta + 1) * batch
    if rows is not None:
        assert staleness.permit(version) - rows == pytest.approx(staleness.capacity(version), abs=1)


def test_a_resume_at_version_zero_does_not_begin_a_second_warm_up() -> None:
    staleness = Staleness(1, 10)
    staleness.resumed(0, StalenessState(origin=100.0), 108)
    assert staleness.permit(0) == 100 + 20


def test_rows_are_counted_from_the_end_of_the_warm_up() -> None:
    staleness = Staleness(1, 25, origin=300)
    assert staleness.permit(0) == 300 + 2 * 25
    assert staleness.permit(4) == 300 + 6 * 25
    staleness.arrived(310)
    assert staleness.capacity(0) == 40


RATIOS = st.floats(0.05, 8.0)


@pytest.mark.slow
@given(RATIOS, st.integers(1, 50), ETAS, st.integers(0, 50), st.integers(0, 60), st.data())
def test_limiter_and_staleness_together_never_stop_both_sides(
    ratio: float, publish_every: int, eta: int, warmup: int, extra: int, data: st.DataObject
) -> None:
    """Also over resumes with rows that nobody had permitted."""
    limiter = RateLimiter(ratio, warmup, 1 + ratio + extra / 10)
    staleness = Staleness(eta, math.ceil(publish_every / ratio), origin=warmup)
    rows = updates = 0
    for turn in data.draw(st.lists(st.sampled_from(["learner", "robots", "resume"]), max_size=40)):
        permit = min(limiter.permit(updates) or 0, staleness.permit(updates // publish_every))
        assert limiter.may_update(rows, updates) or rows < permit
        if turn == "resume":
            rows += data.draw(st.integers(0, 1000))
            limiter.resumed(rows, updates, limiter.state)
            staleness.resumed(updates // publish_every, staleness.state, max(rows, warmup))
        elif turn == "robots":
            rows = max(rows, permit)
        while turn == "learner" and limiter.may_update(rows, updates):
            updates += 1


@pytest.mark.slow
@given(st.lists(st.integers(0, 2**40), max_size=50), st.integers(0, 2**40), st.integers(0, 5))
def test_the_gate_lets_through_what_is_recent_enough(versions: list[int], now: int, eta: int) -> None:
    found = allowed(np.array(versions, np.uint64), now, eta)
    assert found.dtype == bool
    assert found.tolist() == [now - version <= eta for version in versions]
    assert allowed(np.array(versions, np.uint64), now, None).all()


PUTS = st.tuples(st.just("put"), st.integers(0, 12), st.integers(1, 9))
TURNS = st.lists(st.one_of(PUTS, st.tuples(st.just("take"), st.integers(0, 2), st.booleans())), max_size=120)


@pytest.mark.slow
@given(ETAS, st.integers(1, 8), TURNS)
def test_the_queue_is_a_sorted_list_also_across_resumes(
    eta: int, limit: int, turns: list[tuple[str, int, int]]
) -> None:
    queue, now, arrival = FreshQueue(eta, limit), 0, 0
    reference: list[Fresh] = []
    counts = dict.fromkeys(("arrived", "taken", "taken_rows", "expired", "expired_rows", "refused"), 0)
    for turn, number, more in turns:
        if turn == "put":
            there = len(reference) < limit
            assert queue.put(number, "s", 0, more - 1) == there
            counts["arrived" if there else "refused"] += 1
            if there:
                reference.append(Fresh(number, arrival, "s", 0, more - 1))
                arrival += 1
            continue
        now += number
        late = [entry for entry in reference if now - entry.version > eta]
        counts["expired"] += len(late)
        counts["expired_rows"] += sum(entry.last + 1 for entry in late)
        reference = sorted(entry for entry in reference if entry not in late)
        wanted = reference.pop(0) if reference else None
        assert queue.take(now) == wanted
        counts["taken"] += wanted is not None
        counts["taken_rows"] += wanted.last + 1 if wanted else 0
        if more:
            kept = msgspec.json.decode(msgspec.json.encode(queue.state), type=FreshState)
            queue = FreshQueue(eta, limit, kept)
    assert list(queue.state.waiting) == sorted(reference)
    assert len(queue) == len(reference)
    assert {name: getattr(queue.state, name) for name in counts} == counts


def test_what_expires_first_is_handed_out_first() -> None:
    queue = FreshQueue(2, 10)
    for version in (7, 5, 6, 5):
        queue.put(version, "s", version, version)
    assert [entry.version for entry in iter(lambda: queue.take(8), None)] == [6, 7]
    assert queue.state.expired == 2


@pytest.mark.parametrize(("eta", "batch", "running"), [(-1, 1, 1), (0, 0, 1), (0, 1, 0)])
def test_a_limit_that_cannot_work_is_refused(eta: int, batch: int, running: int) -> None:
    with pytest.raises(ConfigError, match=re.escape("allowed 0, 1 and 1 or more; raise the one that is below")):
        Staleness(eta, batch, max_running=running)


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_versions = -1, allowed 0 or more, or null for no limit$"):
        StalenessConfig(max_versions=-1)
