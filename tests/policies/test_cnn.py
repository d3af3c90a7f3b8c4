"""The CNN policy acts as the torch actor that the learner has."""

import numpy as np
import pytest
import torch
from torch import Generator

from policies.cnn import TorchCnn
from policies.config import PolicyConfig, actor_spec
from policies.kits import check_policy, example_observation
from policies.networks import Actor
from user_rl.errors import StorageCorrupt
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.versions import PolicySpec


def make_actor(schema: Schema) -> tuple[Actor, PolicySpec, dict[str, Array]]:
    spec = actor_spec(PolicyConfig(kind="cnn", hidden=(16,), pixel_features=8), schema)
    actor = Actor(spec, len(schema.action.names), Generator().manual_seed(0))
    tensors = {name: value.detach().numpy().copy() for name, value in actor.state_dict().items()}
    return actor, PolicySpec("cnn", schema.action, spec.settings), tensors


@pytest.mark.slow
def test_the_cnn_keeps_the_policy_contract(vision: Schema) -> None:
    _, spec, tensors = make_actor(vision)
    check_policy(lambda seed: TorchCnn(spec, tensors, seed=seed), vision.observation)


def test_the_mode_is_the_actors_mean(vision: Schema) -> None:
    actor, spec, tensors = make_actor(vision)
    seen = example_observation(vision.observation, np.random.default_rng(0))
    with torch.no_grad():
        mean_ba, _ = actor(actor.encode({name: torch.tensor(x)[None] for name, x in seen.items()}))
    low, high = np.asarray(vision.action.low), np.asarray(vision.action.high)
    expected = low + (high - low) * (mean_ba[0].tanh().numpy() + 1) / 2
    np.testing.assert_allclose(TorchCnn(spec, tensors, seed=0).act(seen, explore=False), expected, atol=1e-6)


def test_each_camera_matters(vision: Schema) -> None:
    _, spec, tensors = make_actor(vision)
    policy = TorchCnn(spec, tensors, seed=0)
    seen = example_observation(vision.observation, np.random.default_rng(0))
    mode = policy.act(seen, explore=False)
    for name in spec.settings["images"]:
        assert not np.array_equal(policy.act(seen | {name: 255 - seen[name]}, explore=False), mode)


def test_tensors_of_another_network_are_refused(vision: Schema) -> None:
    _, spec, tensors = make_actor(vision)
    del tensors["head.bias"]
    with pytest.raises(StorageCorrupt, match=r"(?s)weights of a cnn policy: .*head.bias.*; publish the version again"):
        TorchCnn(spec, tensors, seed=0)
