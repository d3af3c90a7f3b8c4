"""The episode table: however rows are cut into commits and segments, an episode adds up to the same."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.user_rl.log.recorded import rows
from user_rl.log import Episode
from user_rl.log.episodes import Part, merged, part_from_value, parts_of
from user_rl.rows import Kind, Klass
from user_rl.specs import Array


def noisy(seed: int, count: int) -> Array:
    """Rows whose every counted field differs from row to row."""
    rng = np.random.default_rng(seed)
    records = rows(0, count)
    records["next.reward"] = rng.normal(size=count)
    records["next.success"], records["is_intervention"] = rng.integers(0, 2, (2, count))
    records["version"] = rng.integers(1, 2**40, count)
    return records


def by_hand(records: Array, number: int) -> Episode:
    run = [record for record in records if record["episode"] == number]
    return Episode(
        stream="s",
        episode=number,
        klass=Klass.ONLINE,
        first_step=int(run[0]["step"]),
        length=len(run) - 1,
        reward_sum=float(sum(float(record["next.reward"]) for record in run if record["kind"] == Kind.STEP)),
        success=any(record["next.success"] for record in run),
        interventions=int(sum(int(record["is_intervention"]) for record in run)),
        version=int(run[0]["version"]),
        closed=run[-1]["kind"] == Kind.LAST,
    )


@given(st.integers(0, 1000), st.integers(1, 23), st.sets(st.integers(1, 22)))
def test_the_table_does_not_depend_on_how_rows_are_cut(seed: int, count: int, cuts: set[int]) -> None:
    records = noisy(seed, count)
    ends = [0, *sorted(cut for cut in cuts if cut < count), count]
    found = [
        ("s", episode, Klass.ONLINE, part)
        for first, last in pairwise(ends)
        for episode, part in parts_of(records[first:last])
    ]
    table = merged(reversed(found))
    assert [episode.episode for episode in table] == sorted({int(e) for e in records["episode"]})
    for episode in table:
        expected = by_hand(records, episode.episode)
        assert episode.reward_sum == pytest.approx(expected.reward_sum, abs=1e-9)
        assert episode == replace(expected, reward_sum=episode.reward_sum)


@given(st.integers(0, 1000))
def test_a_part_is_read_back(seed: int) -> None:
    ((_, part),) = parts_of(noisy(seed, 5))
    assert part_from_value(memoryview(part.packed())) == part


def test_one_number_in_two_classes_or_streams_is_two_episodes() -> None:
    part = Part(5, 3, 1.0, False, 0, 1, True)
    found = [("b", 1, Klass.ONLINE, part), ("a", 1, Klass.DEMONSTRATION, part), ("a", 1, Klass.ONLINE, part)]
    assert [(e.stream, e.klass) for e in merged(found)] == [
        ("a", Klass.DEMONSTRATION), ("a", Klass.ONLINE), ("b", Klass.ONLINE),
    ]  # fmt: skip


def test_an_episode_without_its_last_row_stays_open() -> None:
    ((_, part),) = parts_of(rows(0, 4))
    (episode,) = merged([("s", 0, Klass.ONLINE, part)])
    assert (episode.length, episode.closed) == (3, False)


def test_the_reward_of_the_last_row_means_nothing() -> None:
    records = rows(0, 5)
    records["next.reward"][-1] = 100
    ((_, part),) = parts_of(records)
    assert part.reward_sum == 2.0


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12))
def test_parts_of_single_rows_are_those_of_numpys_columns(seed: int, count: int) -> None:
    records = noisy(seed, count)
    records["kind"][-1] = Kind.LAST
    joined: dict[int, Part] = {}
    for i in range(count):
        for number, part in parts_of(records[i : i + 1]):
            joined[number] = joined[number].joined(part) if number in joined else part
    for number, part in parts_of(records):
        assert replace(joined[number], reward_sum=0.0) == replace(part, reward_sum=0.0)
        assert joined[number].reward_sum == pytest.approx(part.reward_sum)
