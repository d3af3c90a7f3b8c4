"""Every sampler against a slow reading of the same history: exactly the rows that it may draw, and no other."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.store.kits import Complete, generator
from cloud.store.sampler import Moment
from cloud.store.samplers import make_sampler, origin
from cloud.store.shapes import Shaped, make_shape
from tests.cloud.store.rows import History, histories
from tests.cloud.store.samplers.slow import Slow
from tests.cloud.store.samplers.trees import AGAIN
from user_rl.errors import NothingToDraw
from user_rl.specs import Array

ENOUGH = 40  # draws for each row: one is missed once in e^40


@dataclass(frozen=True)
class Has(Complete):
    """See cloud.store.view.LateColumns."""

    rows: frozenset[int]

    def mask(self, column: str, rows: Array) -> Array:
        return np.isin(rows, list(self.rows))


@st.composite
def moments(draw: st.DrawFn) -> tuple[Moment, Slow]:
    """A random history at a random horizon, and the slow reading of it."""
    h: History = draw(histories())
    rows = h.rows()
    end = draw(st.integers(0, len(rows)))
    capacity = draw(st.sampled_from([None, 1, 5, 20]))
    online_from = draw(st.sampled_from([0, 0, 7]))
    ready = frozenset(i for i in range(len(rows)) if i % 3)
    seen: dict[str, Any] = {"end": end, "online_from": online_from, "version": draw(st.integers(0, 9))}
    index = h.index(tuple(draw(st.lists(st.integers(0, 20), max_size=3).map(sorted))))
    moment = Moment(index=index, number=0, capacity_rows=capacity, late=Has(ready), **seen)
    return moment, Slow(rows, capacity=capacity, ready=ready, **seen)


@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.slow
@given(moments(), st.sampled_from([1, origin.FEW]))
@settings(max_examples=60, deadline=None)
def test_exactly_the_rows_that_may_be_drawn_are_drawn(name: str, pair: tuple[Moment, Slow], few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origin, "FEW", few)
        check_rows(name, *pair)


def check_rows(name: str, moment: Moment, slow: Slow) -> None:
    allowed, sampler = slow.weights(AGAIN[name]), make_sampler(AGAIN[name], 2)
    assert sampler.can_draw(moment) == bool(allowed)
    if not allowed:
        with pytest.raises(NothingToDraw):
            sampler.draw(moment, generator(0), 1)
        return
    drawn = sampler.draw(moment, generator(0), 3 * ENOUGH * len(allowed))
    assert set(drawn.rows.tolist()) == allowed.keys()
    assert (drawn.weights == 1).all()


SHAPES = [
    {"name": "transition", "gamma": 0.9},
    {"name": "n_step", "length": 3, "gamma": 0.9},
    {"name": "n_step", "length": 3, "gamma": 0.9, "cut_at_takeover": True},
    {"name": "chunk", "length": 4, "gamma": 0.9},
    {"name": "chunk", "length": 4, "gamma": 0.9, "cut_at_takeover": True},
    {"name": "sequence", "length": 5, "gamma": 0.9},
]


@pytest.mark.slow
@given(moments(), st.sampled_from(sorted(AGAIN)), st.sampled_from(SHAPES), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_sample_is_what_a_slow_reading_says(
    pair: tuple[Moment, Slow], name: str, shape: dict[str, Any], relabelled: bool
) -> None:
    moment, slow = pair
    sampler = make_sampler(AGAIN[name], 2)
    if not sampler.can_draw(moment):
        return
    drawn = sampler.draw(moment, generator(0), 16).rows
    late = np.arange(len(slow.rows), dtype=np.float32) if relabelled else None
    found = make_shape(shape)(moment.online, drawn, None if late is None else late.__getitem__)
    rewards = late if late is not None else np.array([row["next.reward"] for row in slow.rows])
    for b, row in enumerate(drawn.tolist()):
        check_sample(slow, shape, found, b, row, rewards)


def check_sample(slow: Slow, shape: dict[str, Any], found: Shaped, b: int, row: int, rewards: Array) -> None:
    length = shape.get("length", 1)
    steps, after = slow.walk(row, length, cut=shape.get("cut_at_takeover", False))
    padded = steps + steps[-1:] * (length - len(steps))
    mask = [i < len(steps) for i in range(length)]
    last = slow.rows[steps[-1]]
    single, each = shape["name"] in ("transition", "n_step"), shape["name"] == "sequence"
    assert found.observed[b].tolist() == (padded if each else row)
    assert found.acted[b].tolist() == (row if single else padded)
    assert found.mask[b].tolist() == (mask[:1] if single else mask)
    assert found.after[b] == after
    assert found.length[b] == len(steps)
    assert found.done[b] == bool(last["next.done"])
    assert found.truncated[b] == (bool(last["next.truncated"]) and not last["next.done"])
    np.testing.assert_allclose(found.discount[b], 0.0 if last["next.done"] else 0.9 ** len(steps), rtol=1e-6)
    if each:
        wanted: Any = [rewards[s] if here else 0.0 for s, here in zip(padded, mask, strict=True)]
    else:
        wanted = sum(0.9**k * float(rewards[s]) for k, s in enumerate(steps))
    np.testing.assert_allclose(found.reward[b], wanted, rtol=1e-5)
