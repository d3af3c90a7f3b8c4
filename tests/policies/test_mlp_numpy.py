"""The numpy actor equals the torch one, and what it will not load."""

import time

import numpy as np
import pytest
import torch
from torch import Generator

from policies.config import PolicyConfig, actor_spec
from policies.kits import check_policy, example_observation
from policies.mlp_numpy import NumpyMlp
from policies.networks import Actor
from user_rl.errors import StorageCorrupt
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.versions import PolicySpec


def make_actor(schema: Schema, hidden: tuple[int, ...] = (32, 24)) -> tuple[Actor, PolicySpec, dict[str, Array]]:
    spec = actor_spec(PolicyConfig(hidden=hidden, log_std_min=-2.0, log_std_max=-1.0), schema)
    actor = Actor(spec, len(schema.action.names), Generator().manual_seed(0))
    actor.normaliser.fit(np.random.default_rng(1).normal(0.3, 2.0, (50, 5)).astype(np.float32))
    tensors = {name: value.detach().numpy().copy() for name, value in actor.state_dict().items()}
    return actor, PolicySpec("mlp", schema.action, spec.settings), tensors


def test_the_numpy_mlp_keeps_the_policy_contract(schema: Schema) -> None:
    _, spec, tensors = make_actor(schema)
    check_policy(lambda seed: NumpyMlp(spec, tensors, seed=seed), schema.observation)


def test_numpy_and_torch_act_alike(schema: Schema) -> None:
    actor, spec, tensors = make_actor(schema)
    policy, low = NumpyMlp(spec, tensors, seed=0), np.asarray(schema.action.low)
    span, random = np.asarray(schema.action.high) - low, np.random.default_rng(2)
    for scale in (1.0, 1.0, 1.0, 1e5):
        seen = {"observation.state": random.normal(0, scale, 5).astype(np.float32)}
        with torch.no_grad():
            mean_ba, _ = actor(actor.encode({"observation.state": torch.from_numpy(seen["observation.state"])[None]}))
        expected = low + span * (mean_ba[0].tanh().numpy() + 1) / 2
        np.testing.assert_allclose((policy.act(seen, explore=False) - expected) / span, 0, atol=1e-5)


@pytest.mark.parametrize("mask", [[1, 1, 0], [0, 1, 1], [1, 1, 1]])
def test_elements_that_are_not_there_stay_at_the_centre_in_numpy_as_in_torch(masked: Schema, mask: list[int]) -> None:
    spec = actor_spec(PolicyConfig(hidden=(32, 24)), masked)
    assert (spec.mask, spec.flags) == ((5, 6, 7), (5, 6, 7, 8))
    actor = Actor(spec, 3, Generator().manual_seed(0))
    actor.normaliser.fit(np.random.default_rng(1).normal(0.3, 2.0, (50, 9)).astype(np.float32))
    tensors = {name: value.detach().numpy().copy() for name, value in actor.state_dict().items()}
    policy = NumpyMlp(PolicySpec("mlp", masked.action, spec.settings), tensors, seed=0)
    state = np.random.default_rng(2).normal(0, 1, 9).astype(np.float32)
    state[5:] = [*mask, 1]
    low, high = np.asarray(masked.action.low), np.asarray(masked.action.high)
    with torch.no_grad():
        unit = actor.mode(actor.encode({"observation.state": torch.from_numpy(state)[None]}))[0].numpy()
    seen, there = {"observation.state": state}, np.array(mask, bool)
    np.testing.assert_allclose(policy.act(seen, explore=False), (low + high) / 2 + unit * (high - low) / 2, atol=1e-5)
    for explored in (policy.act(seen, explore=True), policy.act(seen, explore=False)):
        offset = explored - (low + high) / 2
        np.testing.assert_allclose(offset[~there], 0, atol=1e-7)
        assert (np.abs(offset[there]) > 1e-6).all()


def test_a_masked_policy_keeps_the_contract(masked: Schema) -> None:
    spec = actor_spec(PolicyConfig(hidden=(8,)), masked)
    actor = Actor(spec, 3, Generator().manual_seed(0))
    tensors = {name: value.detach().numpy().copy() for name, value in actor.state_dict().items()}
    check_policy(
        lambda seed: NumpyMlp(PolicySpec("mlp", masked.action, spec.settings), tensors, seed=seed), masked.observation
    )


def test_exploration_has_the_actors_spread_around_its_mean(schema: Schema) -> None:
    actor, spec, tensors = make_actor(schema)
    tensors["head.bias"][3:] = [-1.5, -9.0, 9.0]  # the last two are clamped to -2 and -1
    tensors["head.weight"][3:] = 0.0
    policy = NumpyMlp(spec, tensors, seed=0)
    seen = example_observation(schema.observation, np.random.default_rng(3))
    low, high = np.asarray(schema.action.low), np.asarray(schema.action.high)
    drawn = np.stack([policy.act(seen, explore=True) for _ in range(4000)]).astype(np.float64)
    raw = np.arctanh(np.clip((drawn - low) / (high - low) * 2 - 1, -1 + 1e-7, 1 - 1e-7))
    with torch.no_grad():
        mean_ba, _ = actor(actor.encode({"observation.state": torch.tensor(seen["observation.state"])[None]}))
    np.testing.assert_allclose(raw.mean(axis=0), mean_ba[0], atol=0.03)
    np.testing.assert_allclose(raw.std(axis=0), np.exp([-1.5, -2.0, -1.0]), rtol=0.05)


def test_a_missing_tensor_is_named(schema: Schema) -> None:
    _, spec, tensors = make_actor(schema)
    del tensors["layers.1.bias"]
    with pytest.raises(StorageCorrupt, match=r"weights: layers.1.bias is nothing, allowed \[24\]; publish the version"):
        NumpyMlp(spec, tensors, seed=0)


def test_a_tensor_of_another_shape_is_named(schema: Schema) -> None:
    _, spec, tensors = make_actor(schema)
    tensors["normaliser.mean"] = np.zeros(6, np.float32)
    with pytest.raises(StorageCorrupt, match=r"weights: normaliser.mean is \[6\], allowed \[5\]"):
        NumpyMlp(spec, tensors, seed=0)


def test_tensors_in_another_memory_order_act_the_same(schema: Schema) -> None:
    _, spec, tensors = make_actor(schema)
    seen = example_observation(schema.observation, np.random.default_rng(3))
    turned = {name: np.asfortranarray(value) for name, value in tensors.items()}
    one, other = (NumpyMlp(spec, t, seed=0).act(seen, explore=False) for t in (tensors, turned))
    np.testing.assert_array_equal(one, other)


def test_an_action_is_quick(schema: Schema) -> None:
    _, spec, tensors = make_actor(schema, hidden=(256, 256))
    policy, seen = NumpyMlp(spec, tensors, seed=0), example_observation(schema.observation, np.random.default_rng(3))
    best_s = min(elapsed_s(policy, seen) for _ in range(200))
    assert best_s < 500e-6  # 15 µs alone on a core; the bound leaves room for a machine that others share


def elapsed_s(policy: NumpyMlp, seen: dict[str, Array]) -> float:
    start_s = time.perf_counter()
    policy.act(seen, explore=True)
    return time.perf_counter() - start_s
