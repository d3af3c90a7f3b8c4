"""Batches of several steps against a slow reading of the rows, step by step."""

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import MemoryLog, state_schema
from tests.cloud.store.logs import STREAM, rows_of
from user_rl.specs import Array

SCHEMA = state_schema()
STATE = "observation.state"
ROWS = np.concatenate([rows_of(SCHEMA, number) for number in range(10)])
GAMMA, LENGTH = 0.9, 4


def slow(start: int) -> tuple[list[int], int, float, float, bool]:
    """(steps from row `start` on, the row after them, their discounted rewards, what bootstraps, done)."""
    steps = [start]
    while len(steps) < LENGTH and not ROWS["next.done"][steps[-1]]:
        steps.append(steps[-1] + 1)
    done = bool(ROWS["next.done"][steps[-1]])
    total = sum(GAMMA**i * float(ROWS["next.reward"][step]) for i, step in enumerate(steps))
    return steps, steps[-1] + 1, total, 0.0 if done else GAMMA ** len(steps), done


def padded(values: Array, steps: list[int]) -> Array:
    """The values of the steps; the last one's again where there is none."""
    return np.asarray(values[steps + steps[-1:] * (LENGTH - len(steps))])


@pytest.mark.parametrize("name", ["n_step", "chunk", "sequence"])
@pytest.mark.parametrize("cache_rows", [0, 30, None])
def test_samples_of_several_steps_are_those_of_the_rows(name: str, cache_rows: int | None) -> None:
    log = MemoryLog(SCHEMA)
    for number in range(10):
        log.add(STREAM, rows_of(SCHEMA, number))
    shape: dict[str, Any] = {"name": name, "length": LENGTH, "gamma": GAMMA}
    config = ReplayConfig(shape=shape, cache_rows=cache_rows, ahead=2)
    with closing(Replay(log, config, SCHEMA, seed=4, demonstration_share=0.3)) as replay:
        replay.catch_up()
        for number in range(6):
            batch = replay.sample(number, 40)
            first = batch.observation[STATE][:, 0] if name == "sequence" else batch.observation[STATE]
            for b, state in enumerate(first):
                start = int(np.flatnonzero((ROWS[STATE] == state).all(axis=1))[0])
                steps, after, total, bootstraps, done = slow(start)
                here = [i < len(steps) for i in range(LENGTH)]
                np.testing.assert_array_equal(batch.next_observation[STATE][b], ROWS[STATE][after])
                acted = ROWS["action"][start] if name == "n_step" else padded(ROWS["action"], steps)
                np.testing.assert_array_equal(batch.action[b], acted)
                assert batch.done[b] == done
                assert batch.discount is not None
                assert batch.discount[b] == pytest.approx(bootstraps)
                if name == "sequence":
                    np.testing.assert_array_equal(batch.observation[STATE][b], padded(ROWS[STATE], steps))
                    wanted = np.where(here, padded(ROWS["next.reward"], steps), 0)
                    np.testing.assert_array_equal(batch.reward[b], wanted)
                else:
                    assert batch.reward[b] == pytest.approx(total, rel=1e-6)
                assert batch.mask is None if name == "n_step" else batch.mask[b].tolist() == here  # type: ignore[index]
