"""BC: its loss by hand, a problem with a known answer, and numbers that stay."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cloud.algorithms.bc import Bc, BcConfig
from cloud.kits import check_algorithm, example_batch
from policies.config import PolicyConfig
from policies.mlp_numpy import NumpyMlp
from user_rl.rows import Schema
from user_rl.specs import Array

SMALL = BcConfig(policy=PolicyConfig(hidden=(32, 32)), learning_rate=3e-3)
B, A = 32, 3


def started(schema: Schema, config: BcConfig = SMALL) -> Bc:
    algorithm = Bc(config, schema, 0)
    algorithm.fit_normaliser(example_batch(schema, B, seed=9).observation)
    return algorithm


def unit(schema: Schema, action: Array) -> Array:
    low, high = np.asarray(schema.action.low), np.asarray(schema.action.high)
    out: Array = 2 * (action - low) / (high - low) - 1
    return out


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.slow
def test_bc_keeps_the_algorithm_contract(kind: str, schema: Schema, vision: Schema) -> None:
    rows = vision if kind == "cnn" else schema
    config = replace(SMALL, policy=PolicyConfig(kind=kind, hidden=(32,)))
    check_algorithm(lambda seed: Bc(config, rows, seed), rows)


def test_the_loss_is_the_squared_error_of_what_the_policy_would_do(schema: Schema) -> None:
    algorithm, batch = started(schema), example_batch(schema, B, seed=0)
    policy = NumpyMlp(algorithm.policy_spec(), algorithm.policy_tensors(), seed=0)
    states = batch.observation["observation.state"]
    acted = np.stack([policy.act({"observation.state": s}, explore=False) for s in states])
    expected = np.square(unit(schema, acted) - unit(schema, batch.action)).mean()
    np.testing.assert_allclose(float(algorithm.update(batch)["actor_loss"]), expected, rtol=1e-4)


@pytest.mark.slow
def test_an_operator_is_imitated_even_where_it_saturates(schema: Schema) -> None:
    algorithm = started(schema)
    for seed in range(400):
        batch = example_batch(schema, 128, seed=seed)
        algorithm.update(replace(batch, action=operator(schema, batch.observation["observation.state"])))
    policy = NumpyMlp(algorithm.policy_spec(), algorithm.policy_tensors(), seed=0)
    states = example_batch(schema, 100, seed=999).observation["observation.state"]
    acted = np.stack([policy.act({"observation.state": s}, explore=False) for s in states])
    assert np.abs(unit(schema, acted) - unit(schema, operator(schema, states))).mean() < 0.1


def operator(schema: Schema, state: Array) -> Array:
    low, high = np.asarray(schema.action.low), np.asarray(schema.action.high)
    return schema.action.clip(low + (high - low) * (np.clip(2 * state[:, :A], -1, 1) + 1) / 2)


def test_exploration_keeps_its_constant_spread_whatever_is_learnt(schema: Schema) -> None:
    algorithm = started(schema, replace(SMALL, exploration_std=0.02))
    for seed in range(10):
        algorithm.update(example_batch(schema, B, seed=seed))
    state_bo = torch.from_numpy(example_batch(schema, B, seed=3).observation["observation.state"].copy())
    _, log_std_ba = algorithm.actor(algorithm.actor.encode({"observation.state": state_bo}))
    np.testing.assert_allclose(log_std_ba.exp().detach(), 0.02, rtol=1e-5)


def test_the_encoder_learns_too(vision: Schema) -> None:
    algorithm = Bc(replace(SMALL, policy=PolicyConfig(kind="cnn", hidden=(8,))), vision, 0)
    before = algorithm.policy_tensors()
    algorithm.update(example_batch(vision, 4, seed=0))
    after = algorithm.policy_tensors()
    assert not np.array_equal(before["pixels.cameras.1.0.weight"], after["pixels.cameras.1.0.weight"])


def test_images_are_shifted_before_use(vision: Schema) -> None:
    config, batch = replace(SMALL, policy=PolicyConfig(kind="cnn", hidden=(8,))), example_batch(vision, 4, seed=0)
    losses = [float(Bc(replace(config, image_shift=p), vision, 0).update(batch)["actor_loss"]) for p in (0, 0, 4)]
    assert losses[0] == losses[1] != losses[2]


def test_the_numbers_are_those_recorded(schema: Schema) -> None:
    algorithm = started(schema)
    found = [float(algorithm.update(example_batch(schema, B, seed=s))["actor_loss"]) for s in range(5)]
    assert found == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = [0.442661, 0.294881, 0.363279, 0.290659, 0.32682]
