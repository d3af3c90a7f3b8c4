"""The algorithm kit refuses what breaks the contract, one break at a time."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloud.algorithms.bc import Bc, BcConfig
from cloud.batch import Batch
from cloud.kits import check_algorithm, example_batch
from policies.config import PolicyConfig
from user_rl.rows import Schema, make_schema
from user_rl.specs import Array, box

ROWS = make_schema({"observation.state": box("s", [("x", "m", -9, 9)])}, box("action", [("dx", "m", -0.1, 0.3)]))


class Flawed(Bc):
    """Behaviour cloning until one `flaw` is named."""

    def __init__(self, schema: Schema, seed: int, flaw: str) -> None:
        super().__init__(BcConfig(policy=PolicyConfig(hidden=(8,))), schema, seed)
        self.flaw = flaw

    def update(self, batch: Batch) -> dict[str, Tensor]:
        if self.flaw == "global":
            torch.rand(1)
        if self.flaw == "moving":
            self.actor.normaliser.mean.add_(0.1)
        if self.flaw == "still":
            return {"loss": torch.zeros(())}
        metrics = super().update(batch)
        if self.flaw == "noise":
            with torch.no_grad():
                self.actor.head.bias.add_(torch.rand(2, generator=torch.Generator().manual_seed(id(self))))
        wrong: dict[str, Any] = {"float": 0.5, "vector": torch.zeros(2), "nan": torch.tensor(np.nan)}
        wrong["graph"] = torch.zeros((), requires_grad=True)
        return metrics | {"loss": wrong[self.flaw]} if self.flaw in wrong else metrics

    def policy_tensors(self) -> dict[str, Array]:
        if self.flaw == "alias":
            return {name: value.detach().numpy() for name, value in self.actor.state_dict().items()}
        return super().policy_tensors()

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.actor.state_dict()) if self.flaw in ("forgetful", "careless") else super().state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if self.flaw in ("forgetful", "careless"):
            self.actor.load_state_dict(state, strict=self.flaw == "forgetful")
        else:
            super().load_state_dict(state)


def test_an_algorithm_without_a_flaw_passes() -> None:
    check_algorithm(lambda seed: Flawed(ROWS, seed, ""), ROWS)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("float", "loss is a float; leave metrics on the device"),
        ("vector", r"loss has shape \[2\]; metrics are scalars"),
        ("nan", "loss = nan on plain random numbers"),
        ("graph", "loss holds its graph; detach it"),
        ("alias", "an update changed published tensors; copy them"),
        ("still", "an update left the policy as it was"),
        ("moving", "an update moved the normaliser"),
        ("noise", "a resumed learner took another path"),
        ("forgetful", "the saved state changed with later updates; copy it"),
        ("global", "torch's global generator was used"),
    ],
)
def test_a_flaw_is_named(flaw: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_algorithm(lambda seed: Flawed(ROWS, seed, flaw), ROWS)


def test_example_batches_keep_their_specs_and_repeat() -> None:
    batch, again = example_batch(ROWS, 50, seed=0), example_batch(ROWS, 50, seed=0)
    for action, state in zip(batch.action, batch.next_observation["observation.state"], strict=True):
        ROWS.action.check(action)
        ROWS.observation["observation.state"].check(state)
    assert batch.done.any()
    assert not batch.done.all()
    np.testing.assert_array_equal(batch.reward, again.reward)
