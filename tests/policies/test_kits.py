"""The policy kit refuses what breaks the contract, one break at a time."""

from collections.abc import Mapping

import numpy as np
import pytest

from policies.kits import check_policy, example_observations
from user_rl.errors import SpecError
from user_rl.rows import Schema
from user_rl.specs import Array, Box


class Wrong:
    """A uniform policy that keeps the contract until one `flaw` is named."""

    def __init__(self, action: Box, seed: int, flaw: str) -> None:
        self.action, self.flaw = action, flaw
        self._random = np.random.default_rng(0 if flaw == "one seed" else None if flaw == "no seed" else seed)
        self._out = np.zeros(3, np.float32)

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        low, high = np.asarray(self.action.low), np.asarray(self.action.high)
        at = self._random.random(3) if (explore and self.flaw != "frozen") or self.flaw == "random mode" else 0.5
        action = self.action.clip(low + (high - low) * at)
        if self.flaw == "far" and observation["observation.state"].max() > 10:
            action += 1
        if self.flaw == "double":
            return action.astype(np.float64)
        self._out[:] = action
        return self._out if self.flaw == "buffer" else action


def test_a_policy_without_a_flaw_passes(schema: Schema) -> None:
    check_policy(lambda seed: Wrong(schema.action, seed, ""), schema.observation)


@pytest.mark.parametrize(
    ("flaw", "message"),
    [
        ("buffer", "overwrote the action"),
        ("random mode", "the mode differs"),
        ("no seed", "one seed gave two sequences"),
        ("one seed", "two seeds gave one sequence"),
        ("frozen", "two seeds gave one sequence"),
        ("double", "action is float64"),
        ("far", "allowed"),
    ],
)
def test_a_flaw_is_named(schema: Schema, flaw: str, message: str) -> None:
    with pytest.raises((AssertionError, SpecError), match=message):
        check_policy(lambda seed: Wrong(schema.action, seed, flaw), schema.observation)


def test_example_observations_keep_their_specs_and_cannot_be_written(vision: Schema) -> None:
    for name, values in example_observations(vision.observation, 3, np.random.default_rng(0)).items():
        for value in values:
            vision.observation[name].check(value)
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
