"""Rows on a device give the batches that rows in memory give, bit for bit."""

from contextlib import closing
from typing import Any

import numpy as np
import pytest
import torch

from cloud.batch import Batch
from cloud.store.device import DeviceAssembler
from cloud.store.replay import Replay, ReplayConfig
from cloud.tensors import to_transitions
from cloud.testing import MemoryLog, episode_rows, state_schema
from policies.config import ActionMap, ActorSpec
from user_rl.rows import Klass, make_schema
from user_rl.specs import Array, Image

EYE = Image(name="observation.images.eye", height=40, width=40)
SCHEMA = make_schema({**state_schema(5).observation, EYE.name: EYE}, state_schema(5).action)
SHAPES: list[dict[str, Any]] = [
    {"name": "transition"}, {"name": "n_step", "length": 3}, {"name": "chunk", "length": 4},
    {"name": "sequence", "length": 3},
]  # fmt: skip


def filled() -> MemoryLog:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    for n in range(20):
        klass = Klass.DEMONSTRATION if n < 4 else Klass.ONLINE
        log.add("a/1/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n, klass=klass))
    return log


def replay(**config: Any) -> Replay:  # noqa: ANN401
    made = Replay(filled(), ReplayConfig(**config), SCHEMA, seed=2, demonstration_share=0.5)
    made.catch_up()
    return made


def fields(batch: Batch) -> dict[str, Array]:
    found = {"action": batch.action, "reward": batch.reward, "done": batch.done}
    found |= {f"now.{n}": v for n, v in batch.observation.items()}
    found |= {f"then.{n}": v for n, v in batch.next_observation.items()}
    return {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 20, 1000])
@pytest.mark.parametrize("ahead", [0, 3])
def test_batches_are_those_of_the_machines_memory(shape: dict[str, Any], rows: int, ahead: int) -> None:
    with closing(replay(shape=shape)) as plain, closing(replay(shape=shape, device_rows=rows, ahead=ahead)) as device:
        for number in range(8):
            wanted, batch = fields(plain.sample(number, 32)), device.sample(number, 32)
            found = fields(batch)
            assert isinstance(batch.observation[EYE.name], torch.Tensor)
            for name, value in wanted.items():
                assert found[name].dtype == value.dtype
                np.testing.assert_array_equal(found[name], value)


def test_pictures_are_views_and_vectors_are_aligned_copies() -> None:
    with closing(replay(device_rows=300)) as made:
        batch = made.sample(0, 16)
    eye, state = batch.observation[EYE.name], batch.observation["observation.state"]
    assert eye.stride(0) == SCHEMA.row_bytes
    assert eye.shape == (16, 40, 40, 3)
    assert state.is_contiguous()
    assert state.data_ptr() % 4 == 0


def test_what_is_on_the_device_is_not_read_again_and_what_was_passed_leaves_it() -> None:
    log, rng = filled(), np.random.default_rng(1)
    made = Replay(log, ReplayConfig(capacity_rows=40, device_rows=40, cache_rows=0, ahead=0), SCHEMA, seed=2)
    making = made._making
    assert isinstance(making, DeviceAssembler)
    with closing(made):
        made.catch_up()
        made.sample(0, 400)
        made.sample(1, 400)
        assert (making.hits, making.misses) == (800, 800)
        for n in range(4):
            log.add("b/1/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
        made.catch_up()
        made.sample(2, 400)
        made.sample(3, 400)
        assert (making.hits, making.misses) == (1600, 1600)


def test_an_algorithm_takes_a_batch_that_is_on_the_device() -> None:
    actions = ActionMap(SCHEMA.action)
    spec = ActorSpec(
        state=5, hidden=(8,), log_std_min=-5, log_std_max=2, pixel_features=4, images={EYE.name: (40, 40, 3)}
    )
    with closing(replay()) as plain, closing(replay(device_rows=100)) as device:
        wanted, found = (to_transitions(r.sample(0, 32), actions, spec, torch.device("cpu")) for r in (plain, device))
    assert torch.equal(found.action_ba, wanted.action_ba)
    assert torch.equal(found.reward_b, wanted.reward_b)
    assert torch.equal(found.goes_on_b, wanted.goes_on_b)
    assert wanted.observation.keys() == found.observation.keys()
    for name, value in wanted.observation.items():
        assert torch.equal(found.observation[name], value)
        assert torch.equal(found.next_observation[name], wanted.next_observation[name])
