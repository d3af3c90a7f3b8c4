"""The mathematics of the networks: normalising, the squashed Gaussian's density, critics that do not share."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator

from policies.config import PolicyConfig, actor_spec
from policies.networks import Actor, Critics, Normaliser, make_linear, squashed_log_prob
from user_rl.rows import Schema

Vector = NDArray[np.float64]


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_a_fitted_normaliser_centres_and_scales() -> None:
    values = np.random.default_rng(0).normal([1.0, -20.0], [0.1, 5.0], (500, 2)).astype(np.float32)
    normaliser = Normaliser(2)
    normaliser.fit(values)
    out = normaliser(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=0), 1, atol=1e-4)


def test_a_constant_feature_is_centred_and_not_blown_up() -> None:
    normaliser = Normaliser(2)
    normaliser.fit(np.array([[5.0, 1.0], [5.0004, 1.004]], np.float32))
    assert normaliser.scale.tolist()[0] == 1.0
    np.testing.assert_allclose(normaliser.scale[1], 0.002, rtol=1e-3)
    np.testing.assert_allclose(normaliser(torch.tensor([[6.0, 1.002]])), [[1.0, 0.0]], atol=1e-3)


def test_flags_stay_as_they_are() -> None:
    normaliser = Normaliser(3, (1,))
    normaliser.fit(np.array([[5.0, 1.0, 2.0], [7.0, 0.0, 4.0], [9.0, 1.0, 9.0]], np.float32))
    out = normaliser(torch.tensor([[7.0, 1.0, 5.0], [7.0, 0.0, 5.0]]))
    assert out.tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_an_outlier_is_held_at_ten_scales() -> None:
    assert Normaliser(2)(torch.tensor([[1e9, -1e9]])).tolist() == [[10.0, -10.0]]


def test_what_is_large_and_nearly_constant_is_fitted_in_double_precision() -> None:
    normaliser = Normaliser(1)
    normaliser.fit(np.array([[4096.0], [4096.5]], np.float32))
    np.testing.assert_allclose(normaliser.scale, [0.25])


def test_the_density_of_the_squashed_gaussian_integrates_to_one_and_is_the_samples() -> None:
    mean, log_std = 0.7, -0.4
    action = np.tanh(np.linspace(-9, 9, 200_001))
    raw = np.arctanh(np.clip(action, -1 + 1e-15, 1 - 1e-15))
    density = np.exp(log_prob(raw, mean, log_std))
    inside = slice(1, -1)
    np.testing.assert_allclose(np.trapezoid(density[inside], action[inside]), 1.0, atol=1e-4)
    samples = np.tanh(mean + np.exp(log_std) * np.random.default_rng(0).standard_normal(200_000))
    for threshold in (-0.5, 0.3, 0.9):
        below = action[inside] < threshold
        mass = np.trapezoid(density[inside][below], action[inside][below])
        np.testing.assert_allclose(mass, (samples < threshold).mean(), atol=5e-3)


def log_prob(raw: Vector, mean: float, log_std: float) -> Vector:
    raw_ba = torch.from_numpy(raw)[:, None]
    noise_ba, log_std_ba = (raw_ba - mean) / np.exp(log_std), torch.full_like(raw_ba, log_std)
    out: Vector = squashed_log_prob(raw_ba, noise_ba, log_std_ba).numpy()
    return out


def test_the_log_probability_stays_finite_where_tanh_saturates() -> None:
    raw_ba = torch.tensor([[40.0], [-40.0]])
    log_prob_b = squashed_log_prob(raw_ba, torch.zeros_like(raw_ba), torch.zeros_like(raw_ba))
    expected = -0.5 * np.log(2 * np.pi) - np.log(4.0) + 80.0
    np.testing.assert_allclose(log_prob_b, [expected] * 2, rtol=1e-5)


def test_a_sample_and_its_probability_belong_together(schema: Schema) -> None:
    actor = Actor(actor_spec(PolicyConfig(hidden=(16,)), schema), 3, seeded())
    features_bf = torch.randn(6, 5, generator=seeded(1))
    action_ba, log_prob_b = actor.sample(features_bf, seeded(2))
    mean_ba, log_std_ba = (x.detach().double() for x in actor(features_bf))
    raw_ba = action_ba.detach().double().atanh()
    gaussian = torch.distributions.Normal(mean_ba, log_std_ba.exp())
    expected_b = (gaussian.log_prob(raw_ba) - torch.log(1 - raw_ba.tanh().square())).sum(dim=1)
    torch.testing.assert_close(log_prob_b.double(), expected_b, rtol=1e-4, atol=1e-4)


def test_log_std_stays_between_its_limits(schema: Schema) -> None:
    actor = Actor(actor_spec(PolicyConfig(hidden=(4,), log_std_min=-3.0, log_std_max=0.5), schema), 3, seeded())
    with torch.no_grad():
        actor.head.bias.copy_(torch.tensor([0.0, 0, 0, 99, -99, 0]))
        _, log_std_ba = actor(torch.zeros(1, 5))
    assert log_std_ba[0, :2].tolist() == [0.5, -3.0]


def test_the_same_seed_makes_the_same_networks_and_the_global_generator_is_left_alone(schema: Schema) -> None:
    before = torch.get_rng_state()
    actors = [Actor(actor_spec(PolicyConfig(), schema), 3, seeded(s)).state_dict() for s in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(actors[0][n], actors[1][n]) for n in actors[0])
    assert not torch.equal(actors[0]["head.weight"], actors[2]["head.weight"])


def test_an_actor_with_cameras_learns_to_see_and_its_parameters_fall_into_two_halves(vision: Schema) -> None:
    actor = Actor(actor_spec(PolicyConfig(kind="cnn", hidden=(8,)), vision), 3, seeded())
    halves = [*actor.encoder_parameters(), *actor.head_parameters()]
    assert {id(p) for p in halves} == {id(p) for p in actor.parameters()}
    assert len(halves) == len({id(p) for p in halves})
    assert actor.features == 5 + 2 * 64


def test_critics_by_hand_in_numpy() -> None:
    critics = Critics(4, 2, (8, 6), count=2, layer_norm=True, generator=seeded())
    with torch.no_grad():
        for p in critics.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=seeded(3)))
    features_bf, action_ba = torch.randn(5, 4, generator=seeded(1)), torch.randn(5, 2, generator=seeded(2))
    t = {n: v.numpy().astype(np.float64) for n, v in critics.state_dict().items()}
    for k in range(2):
        x = np.concatenate([features_bf.numpy(), action_ba.numpy()], axis=1).astype(np.float64)
        for i in (0, 3):  # linear, LayerNorm, ReLU
            x = x @ t[f"members.{k}.{i}.weight"].T + t[f"members.{k}.{i}.bias"]
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
            x = np.maximum(x * t[f"members.{k}.{i + 1}.weight"] + t[f"members.{k}.{i + 1}.bias"], 0)
        x = x @ t[f"members.{k}.6.weight"].T + t[f"members.{k}.6.bias"]
        np.testing.assert_allclose(critics(features_bf, action_ba)[k].detach(), x[:, 0], rtol=1e-5, atol=1e-6)


def test_critics_without_layer_norm_have_none_and_members_differ() -> None:
    critics = Critics(4, 2, (8,), count=3, layer_norm=False, generator=seeded())
    assert not any("1.weight" in n and v.ndim == 1 for n, v in critics.state_dict().items())
    values_nb = critics(torch.ones(1, 4), torch.ones(1, 2)).detach()
    assert values_nb.shape == (3, 1)
    assert len({round(float(v), 6) for v in values_nb[:, 0]}) == 3


def test_weights_start_uniform_within_one_over_the_root_of_the_inputs() -> None:
    layer = make_linear(400, 300, seeded())
    for values in (layer.weight.detach(), layer.bias.detach()):
        assert 0.045 < float(values.abs().max()) <= 0.0500001
    np.testing.assert_allclose(float(layer.weight.detach().std()), 0.05 / np.sqrt(3), rtol=0.02)
