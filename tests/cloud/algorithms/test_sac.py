"""SAC: each equation a second time by hand, a problem with a known answer, and numbers that stay."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from cloud.algorithms.sac import Sac, SacConfig
from cloud.batch import Batch
from cloud.kits import check_algorithm, example_batch
from cloud.tensors import to_transitions
from policies.config import ActionMap, PolicyConfig
from policies.mlp_numpy import NumpyMlp
from user_rl.rows import Schema
from user_rl.specs import Array

SMALL = SacConfig(policy=PolicyConfig(hidden=(32, 32)), critic_hidden=(32, 32))
B, A = 16, 3


def started(schema: Schema, config: SacConfig = SMALL) -> tuple[Sac, Batch]:
    """After some updates, so that targets differ from critics and moments from zero."""
    algorithm, batch = Sac(config, schema, 0), example_batch(schema, B, seed=9)
    algorithm.fit_normaliser(batch.observation)
    for seed in range(4):
        algorithm.update(example_batch(schema, B, seed=seed))
    return algorithm, batch


def noise_next(algorithm: Sac, draws: int = 1) -> list[Array]:
    """What the algorithm's generator will draw, [B, A] each."""
    twin = Generator()
    twin.set_state(algorithm.state_dict()["generator"])
    return [torch.empty(B, A).normal_(generator=twin).double().numpy() for _ in range(draws)]


def tensors(algorithm: Sac, part: str) -> dict[str, Array]:
    state = algorithm.state_dict().items()
    return {n.removeprefix(f"{part}."): v.double().numpy() for n, v in state if n.startswith(f"{part}.")}


def features(algorithm: Sac, observation: dict[str, Array]) -> Array:
    t = tensors(algorithm, "actor.normaliser")
    x: Array = np.clip((observation["observation.state"] - t["mean"]) / t["scale"], -10, 10)
    return x


def act(algorithm: Sac, x: Array, noise: Array) -> tuple[Array, Array]:
    """Action [B, A] and log-probability [B]."""
    t = tensors(algorithm, "actor")
    for i in (0, 1):
        x = np.maximum(x @ t[f"layers.{i}.weight"].T + t[f"layers.{i}.bias"], 0)
    mean, log_std = np.split(x @ t["head.weight"].T + t["head.bias"], 2, axis=1)
    action = np.tanh(mean + np.exp(log_std) * noise)
    gaussian = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return action, (gaussian - np.log(1 - action**2)).sum(axis=1)


def value(algorithm: Sac, part: str, x: Array, action: Array) -> Array:
    """[N, B]."""
    t, rows = tensors(algorithm, part), []
    for k in range(2):
        h = np.concatenate([x, action], axis=1)
        for i in (0, 2):
            h = np.maximum(h @ t[f"members.{k}.{i}.weight"].T + t[f"members.{k}.{i}.bias"], 0)
        rows.append((h @ t[f"members.{k}.4.weight"].T + t[f"members.{k}.4.bias"])[:, 0])
    return np.stack(rows)


def unit(schema: Schema, action: Array) -> Array:
    low, high = np.asarray(schema.action.low), np.asarray(schema.action.high)
    out: Array = 2 * (action - low) / (high - low) - 1
    return out


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.slow
def test_sac_keeps_the_algorithm_contract(kind: str, schema: Schema, vision: Schema) -> None:
    config = replace(SMALL, policy=PolicyConfig(kind=kind, hidden=(32,)))
    rows = vision if kind == "cnn" else schema
    check_algorithm(lambda seed: Sac(config, rows, seed), rows)


def test_the_target_is_the_papers(schema: Schema) -> None:
    algorithm, batch = started(schema, replace(SMALL, initial_temperature=0.3))
    x = features(algorithm, batch.next_observation)
    action, log_prob = act(algorithm, x, noise_next(algorithm)[0])
    next_value = value(algorithm, "targets", x, action).min(axis=0)
    next_value = next_value - float(algorithm.log_temperature.detach().exp()) * log_prob
    expected = batch.reward + 0.98 * np.where(batch.done, 0.0, next_value)
    assert batch.done.any()
    np.testing.assert_allclose(target(algorithm, batch, schema), expected, rtol=1e-4, atol=1e-5)


def target(algorithm: Sac, batch: Batch, schema: Schema) -> Array:
    data = to_transitions(batch, ActionMap(schema.action), algorithm._spec, torch.device("cpu"))
    out: Array = algorithm._target(data).numpy()
    return out


def test_the_critics_descend_their_mean_squared_error(schema: Schema) -> None:
    algorithm, batch = started(schema)
    before = copy.deepcopy(algorithm)
    x = features(algorithm, batch.observation)
    y = target(before, batch, schema)
    values = value(algorithm, "critics", x, unit(schema, batch.action))
    metrics = algorithm.update(batch)
    np.testing.assert_allclose(float(metrics["critic_loss"]), np.mean((values - y) ** 2), rtol=1e-4)
    np.testing.assert_allclose(float(metrics["value"]), values.mean(), rtol=1e-4, atol=1e-6)
    for k in range(2):  # d loss / d last bias, from what Adam remembers
        i = [n for n, _ in algorithm.critics.named_parameters()].index(f"members.{k}.4.bias")
        old, new = (tensors(a, "critic_adam")[f"mean{i}"][0] for a in (before, algorithm))
        np.testing.assert_allclose((new - 0.9 * old) / 0.1, np.mean(values[k] - y), rtol=1e-3, atol=1e-6)


def test_the_actor_climbs_the_lower_value_and_its_entropy(schema: Schema) -> None:
    algorithm, batch = started(schema, replace(SMALL, initial_temperature=0.3))
    _, noise = noise_next(algorithm, 2)
    temperature = float(algorithm.log_temperature.detach().exp())
    x = features(algorithm, batch.observation)
    action, log_prob = act(algorithm, x, noise)
    metrics = algorithm.update(batch)  # the critics move first
    values = value(algorithm, "critics", x, action).min(axis=0)
    np.testing.assert_allclose(float(metrics["actor_loss"]), np.mean(temperature * log_prob - values), rtol=1e-4)
    np.testing.assert_allclose(float(metrics["entropy"]), -log_prob.mean(), rtol=1e-4)
    np.testing.assert_allclose(float(metrics["temperature"]), temperature, rtol=1e-6)


def test_the_actors_gradient_is_that_of_its_loss_and_leaves_the_critics_alone(schema: Schema) -> None:
    algorithm, batch = started(schema, replace(SMALL, initial_temperature=0.3))
    x, noise = features(algorithm, batch.observation), noise_next(algorithm)[0]
    critics = tensors(algorithm, "critics")
    i = len(algorithm.actor.head_parameters()) - 1  # head.bias
    before, temperature = copy.deepcopy(algorithm), float(algorithm.log_temperature.detach().exp())
    algorithm._update_actor(torch.from_numpy(x.astype(np.float32)))
    old, new = (tensors(a, "actor_adam")[f"mean{i}"] for a in (before, algorithm))
    for at in (0, A):  # of a mean and of a log std
        slopes = []
        for step in (1e-4, -1e-4):
            moved = copy.deepcopy(before)
            with torch.no_grad():
                moved.actor.double().head.bias[at] += step
            action, log_prob = act(moved, x, noise)
            slopes.append(np.mean(temperature * log_prob - value(moved, "critics", x, action).min(axis=0)))
        np.testing.assert_allclose((new[at] - 0.9 * old[at]) / 0.1, (slopes[0] - slopes[1]) / 2e-4, rtol=2e-3)
    assert all(np.array_equal(critics[n], v) for n, v in tensors(algorithm, "critics").items())


@pytest.mark.parametrize("wanted", [-20.0, 20.0])
def test_the_temperature_falls_while_entropy_is_above_its_target_and_rises_below(schema: Schema, wanted: float) -> None:
    algorithm = Sac(replace(SMALL, target_entropy_per_action=wanted), schema, 0)
    np.testing.assert_allclose(float(algorithm.log_temperature.detach()), np.log(0.2), rtol=1e-6)
    metrics = algorithm.update(example_batch(schema, B, seed=0))
    gradient = 0.2 * (float(metrics["entropy"]) - wanted * A)
    np.testing.assert_allclose(float(algorithm.state_dict()["temperature_adam.mean0"]), 0.1 * gradient, rtol=1e-4)
    step = np.sign(wanted) * 3e-4  # Adam's first step is the learning rate
    np.testing.assert_allclose(float(algorithm.log_temperature.detach()), np.log(0.2) + step, atol=1e-6)


def test_targets_trail_the_critics_by_tau(schema: Schema) -> None:
    algorithm, batch = started(schema, replace(SMALL, tau=0.25))
    old = tensors(algorithm, "targets")
    algorithm.update(batch)
    new, critics = tensors(algorithm, "targets"), tensors(algorithm, "critics")
    for name in old:
        np.testing.assert_allclose(new[name], 0.75 * old[name] + 0.25 * critics[name], rtol=1e-4, atol=1e-6)


def test_from_pixels_the_encoder_learns_from_the_critics_alone(vision: Schema) -> None:
    config = replace(SMALL, policy=PolicyConfig(kind="cnn", hidden=(8,)), critic_hidden=(8,))
    algorithm, batch = Sac(config, vision, 0), example_batch(vision, 4, seed=0)
    before = tensors(algorithm, "actor.pixels")
    data = to_transitions(batch, algorithm._map, algorithm._spec, torch.device("cpu"))
    features_bf, _ = algorithm._update_critics(data)
    after = tensors(algorithm, "actor.pixels")
    assert not np.array_equal(before["cameras.0.0.weight"], after["cameras.0.0.weight"])
    algorithm._update_actor(features_bf)
    assert all(np.array_equal(after[n], v) for n, v in tensors(algorithm, "actor.pixels").items())


def test_images_are_shifted_before_use(vision: Schema) -> None:
    config = replace(SMALL, policy=PolicyConfig(kind="cnn", hidden=(8,)), critic_hidden=(8,))
    batch = example_batch(vision, 4, seed=0)
    losses = [float(Sac(replace(config, image_shift=pad), vision, 0).update(batch)["critic_loss"]) for pad in (0, 0, 4)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_a_one_step_task_is_learnt(schema: Schema) -> None:
    algorithm = Sac(replace(SMALL, learning_rate=3e-3, initial_temperature=0.05), schema, 0)
    algorithm.fit_normaliser(example_batch(schema, 256, seed=0).observation)
    for seed in range(300):
        batch = example_batch(schema, 128, seed=seed)
        error = unit(schema, batch.action) - best(batch.observation["observation.state"])
        reward = -np.square(error).sum(axis=1).astype(np.float32)
        algorithm.update(replace(batch, reward=reward, done=np.ones(128, bool)))
    policy = NumpyMlp(algorithm.policy_spec(), algorithm.policy_tensors(), seed=0)
    states = example_batch(schema, 100, seed=999).observation["observation.state"]
    acted = np.stack([policy.act({"observation.state": s}, explore=False) for s in states])
    assert np.abs(unit(schema, acted) - best(states)).mean() < 0.12


def best(state: Array) -> Array:
    """The best action in [-1, 1] for each state."""
    out: Array = 0.6 * np.tanh(state[..., :A])
    return out


def test_a_second_learner_with_the_seed_takes_the_same_path_bit_for_bit(schema: Schema) -> None:
    one, other = (started(schema)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_ten_updates_then_ten_more_are_twenty_across_a_checkpoint(schema: Schema) -> None:
    whole, _ = started(schema)
    first, _ = started(schema)
    resumed = Sac(SMALL, schema, 77)
    for seed in range(10):
        whole.update(example_batch(schema, B, seed=seed))
        first.update(example_batch(schema, B, seed=seed))
    resumed.load_state_dict(first.state_dict())
    for seed in range(10, 20):
        whole.update(example_batch(schema, B, seed=seed))
        resumed.update(example_batch(schema, B, seed=seed))
    one, other = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_numbers_are_those_recorded(schema: Schema) -> None:
    algorithm, batch = started(schema)
    found = {name: float(x) for name, x in algorithm.update(batch).items()}
    assert found == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = {
    "critic_loss": 1.58825,
    "value": -0.0709843,
    "actor_loss": -0.325524,
    "entropy": 2.13648,
    "temperature": 0.19976,
}
