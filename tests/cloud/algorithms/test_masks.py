"""Masks: what a cell does not have counts for nothing, in every algorithm. Equations a second time by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator

from cloud.algorithms.bc import Bc, BcConfig
from cloud.algorithms.rlpd import Rlpd, RlpdConfig
from cloud.algorithms.sac import Sac, SacConfig
from cloud.batch import Batch
from cloud.kits import check_algorithm, example_batch
from cloud.tensors import to_transitions
from policies.config import ActionMap, PolicyConfig
from user_rl.rows import Schema
from user_rl.specs import Array

POLICY = PolicyConfig(hidden=(32, 32))
SAC = SacConfig(policy=POLICY, critic_hidden=(32, 32), initial_temperature=0.3)
RLPD = RlpdConfig(policy=POLICY, critic_hidden=(32, 32), initial_temperature=0.3, backup_entropy=True)
MAKE: dict[str, Callable[[Schema], Any]] = {
    "sac": lambda schema: Sac(SAC, schema, 0),
    "rlpd": lambda schema: Rlpd(RLPD, schema, 0),
    "bc": lambda schema: Bc(BcConfig(policy=POLICY), schema, 0),
}
B, A, STATE, MASK = 16, 3, "observation.state", slice(5, 8)


def masked_batch(schema: Schema, seed: int) -> Batch:
    """Random transitions, of which half have two elements of the action and half all three."""
    batch = example_batch(schema, B, seed=seed)
    mask = np.ones((B, A), np.float32)
    mask[::2, seed % A] = 0
    return replace(
        batch, observation=flagged(batch.observation, mask), next_observation=flagged(batch.next_observation, mask)
    )


def flagged(observation: dict[str, Array], mask: Array) -> dict[str, Array]:
    state = observation[STATE].copy()
    state[:, MASK], state[:, 8] = mask, 1.0
    return {STATE: state}


def started(name: str, schema: Schema) -> Any:  # noqa: ANN401
    algorithm = MAKE[name](schema)
    algorithm.fit_normaliser(masked_batch(schema, 9).observation)
    for seed in range(4):
        algorithm.update(masked_batch(schema, seed))
    return algorithm


def act(algorithm: Any, state: Array, noise: Array) -> tuple[Array, Array]:  # noqa: ANN401
    """Action [B, A] and log-probability [B], in doubles."""
    t = {n: v.double().numpy() for n, v in algorithm.actor.state_dict().items()}
    mask, x = state[:, MASK], np.clip((state - t["normaliser.mean"]) / t["normaliser.scale"], -10, 10)
    for i in (0, 1):
        x = np.maximum(x @ t[f"layers.{i}.weight"].T + t[f"layers.{i}.bias"], 0)
    mean, log_std = np.split(x @ t["head.weight"].T + t["head.bias"], 2, axis=1)
    action = np.tanh(mean + np.exp(log_std) * noise)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return action * mask, ((gaussian - np.log(1 - action**2)) * mask).sum(axis=1)


def noise_next(algorithm: Any) -> Array:  # noqa: ANN401
    twin = Generator()
    twin.set_state(algorithm.state_dict()["generator"])
    return torch.empty(B, A).normal_(generator=twin).double().numpy()


@pytest.mark.parametrize("name", list(MAKE))
@pytest.mark.slow
def test_a_masked_algorithm_keeps_the_contract(name: str, masked: Schema) -> None:
    check_algorithm(lambda seed: MAKE[name](masked), masked)


@pytest.mark.parametrize("name", list(MAKE))
def test_whatever_stands_in_a_missing_element_nobody_learns_from_it(name: str, masked: Schema) -> None:
    one, other = started(name, masked), started(name, masked)
    for seed in range(3):
        batch = masked_batch(masked, seed)
        gone = batch.observation[STATE][:, MASK] == 0
        assert gone.any()
        changed = np.where(gone, np.asarray(masked.action.high, np.float32), batch.action)
        one.update(batch)
        other.update(replace(batch, action=changed))
    first, second = one.state_dict(), other.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", ["sac", "rlpd"])
def test_the_target_looks_at_what_is_there(name: str, masked: Schema) -> None:
    algorithm, batch = started(name, masked), masked_batch(masked, 1)
    state = batch.next_observation[STATE]
    action, log_prob = act(algorithm, state, noise_next(algorithm))
    assert (action == 0).sum() == B / 2
    with torch.no_grad():
        features = algorithm.actor.encode({STATE: torch.from_numpy(state)})
        values = algorithm.targets(features, torch.from_numpy(action.astype(np.float32))).amin(dim=0).double().numpy()
    temperature = float(algorithm.log_temperature.detach().exp())
    gamma = algorithm.config.gamma
    expected = batch.reward + gamma * np.where(batch.done, 0.0, values - temperature * log_prob)
    data = to_transitions(batch, ActionMap(masked.action), algorithm._spec, torch.device("cpu"))
    np.testing.assert_allclose(algorithm._target(data).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "config"), [("sac", SAC), ("rlpd", RLPD)])
def test_the_entropys_target_counts_what_is_there(name: str, config: Any, masked: Schema) -> None:  # noqa: ANN401
    algorithm, batch = MAKE[name](masked), masked_batch(masked, 0)
    metrics = algorithm.update(batch)
    elements = batch.observation[STATE][:, MASK].sum(axis=1).mean()
    assert elements == 2.5
    gradient = 0.3 * (float(metrics["entropy"]) - config.target_entropy_per_action * elements)
    np.testing.assert_allclose(float(algorithm.state_dict()["temperature_adam.mean0"]), 0.1 * gradient, rtol=1e-4)


def test_behaviour_cloning_is_the_mean_error_of_what_is_there(masked: Schema) -> None:
    algorithm, batch = started("bc", masked), masked_batch(masked, 2)
    state = batch.observation[STATE]
    mask = state[:, MASK].astype(bool)
    acted, _ = act(algorithm, state, np.zeros((B, A)))
    low, high = np.asarray(masked.action.low), np.asarray(masked.action.high)
    wanted = 2 * (batch.action - low) / (high - low) - 1
    expected = np.square(acted - wanted)[mask].mean()
    np.testing.assert_allclose(float(algorithm.update(batch)["actor_loss"]), expected, rtol=1e-4)
