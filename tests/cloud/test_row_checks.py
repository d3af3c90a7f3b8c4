"""Rows held against their ranges: one alone, which is looked at by plain numbers, as when it comes with others."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cloud.episodes import EpisodeTally, online_steps
from cloud.row_checks import FLAGS, find_problem
from cloud.testing import episode_rows, state_schema
from user_rl.row_head import HEAD
from user_rl.rows import Kind, Klass
from user_rl.specs import Array

SCHEMA = state_schema()
CHANGES = {
    "step": (0, 5, 6, 2**64 - 1), "token": (0, 1, 2**64 - 1), "run": (b"run", b"", b"run2", b"RUN", b"r" * 48),
    "next.reward": (0.0, -1e30, np.nan, np.inf, -np.inf), **dict.fromkeys(FLAGS, (0, 1, 2, 255)),
}  # fmt: skip
CHANGE = st.sampled_from([(name, value) for name, values in CHANGES.items() for value in values])


def pair() -> Array:
    return episode_rows(SCHEMA, np.random.default_rng(0), length=3, first_step=5)[:2]


@settings(deadline=None)
@given(st.lists(CHANGE, max_size=3), st.sampled_from(["run", "ru", "", "run\0", "r" * 48, "r" * 49]))
@example([("next.reward", np.nan)], "run")
def test_a_row_alone_has_the_problems_that_it_has_with_others(changes: list[tuple[str, object]], run: str) -> None:
    rows = pair()
    rows["run"] = run.encode()[:48]
    for name, value in changes:
        rows[name][0] = value
    together = find_problem(rows, 5, run)
    assert find_problem(rows[:1], 5, run) == ("" if together.startswith("row 6") else together)


@settings(deadline=None)
@given(st.integers(0, HEAD.size - 1), st.integers(1, 255))
def test_a_changed_byte_is_judged_alike(at: int, change: int) -> None:
    rows = pair()
    rows.view(np.uint8)[at] ^= change
    assert find_problem(rows[:1], 5, "run") == find_problem(rows, 5, "run")


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_episodes_add_up_alike_row_by_row(seed: int, lengths: list[int]) -> None:
    rng, parts, first = np.random.default_rng(seed), [], 0
    for number, length in enumerate(lengths):
        klass = Klass(int(rng.integers(2)))
        parts.append(episode_rows(SCHEMA, rng, length=length, first_step=first, number=number, klass=klass))
        first += length + 1
    rows = np.concatenate(parts)[: first - int(rng.integers(2))]
    rows["next.reward"] = rng.integers(-4, 5, len(rows))
    rows["next.success"], rows["is_intervention"] = rng.integers(0, 2, (2, len(rows)))
    whole, single = EpisodeTally(), EpisodeTally()
    singly = [closed for i in range(len(rows)) for closed in single.add("s", rows[i : i + 1])]
    assert singly == whole.add("s", rows)
    rest = episode_rows(SCHEMA, rng, length=1, first_step=first, number=len(lengths) - 1)[1:]
    assert single.add("s", rest) == whole.add("s", np.concatenate([rest, rest])[:1])
    assert sum(online_steps(rows[i : i + 1]) for i in range(len(rows))) == online_steps(rows)
    by_hand = (rows["kind"] == Kind.STEP) & (rows["klass"] == Klass.ONLINE)
    assert online_steps(rows) == int(by_hand.sum())
