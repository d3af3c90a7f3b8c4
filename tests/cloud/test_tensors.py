"""From rows to tensors: units, terminations, and what is left behind."""

import numpy as np
import pytest
import torch
from torch import Generator

from cloud.batch import Batch
from cloud.tensors import pick_device, shifted, to_transitions
from policies.config import ActionMap, ActorSpec
from user_rl.errors import ConfigError
from user_rl.specs import box

ACTIONS = ActionMap(box("action", [("dx", "m", -0.01, 0.03)]))
EYE = "observation.images.eye"


def make_batch() -> Batch:
    seen = {
        "observation.state": np.ones((2, 4), np.float32),
        EYE: np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8),
        "observation.images.other": np.zeros((2, 9, 9, 3), np.uint8),
    }
    return Batch(
        seen, np.array([[0.03], [0.01]], np.float32), np.ones(2, np.float32), np.array([True, False]), dict(seen)
    )


def make_spec() -> ActorSpec:
    return ActorSpec(state=4, hidden=(8,), log_std_min=-5, log_std_max=2, pixel_features=4, images={EYE: (40, 40, 3)})


def test_actions_become_unit_and_terminations_factors() -> None:
    data = to_transitions(make_batch(), ACTIONS, make_spec(), torch.device("cpu"))
    torch.testing.assert_close(data.action_ba, torch.tensor([[1.0], [0.0]]))
    assert data.goes_on_b.tolist() == [0.0, 1.0]
    assert data.goes_on_b.dtype == torch.float32


def test_only_what_the_actor_sees_is_carried() -> None:
    data = to_transitions(make_batch(), ACTIONS, make_spec(), torch.device("cpu"))
    assert list(data.observation) == list(data.next_observation) == ["observation.state", EYE]
    assert data.observation[EYE].dtype == torch.uint8


def test_a_batch_that_cannot_be_written_is_read() -> None:
    batch = make_batch()
    batch.reward.flags.writeable = False
    data = to_transitions(batch, ACTIONS, make_spec(), torch.device("cpu"))
    assert data.reward_b.tolist() == [1.0, 1.0]


def test_both_images_shift_on_their_own_and_the_state_stays() -> None:
    data = to_transitions(make_batch(), ACTIONS, make_spec(), torch.device("cpu"))
    moved = shifted(data, 4, Generator().manual_seed(0))
    assert torch.equal(moved.observation["observation.state"], data.observation["observation.state"])
    assert not torch.equal(moved.observation[EYE], data.observation[EYE])
    assert not torch.equal(moved.next_observation[EYE], data.next_observation[EYE])
    assert not torch.equal(moved.observation[EYE], moved.next_observation[EYE])


def test_a_device_is_picked_or_named() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"device = 'gpu': .*; set device=auto"):
        pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"device = 'cuda', but this machine has no CUDA GPU; set device=cpu"):
        pick_device("cuda")
