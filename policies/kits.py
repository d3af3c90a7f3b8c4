"""The contract of `SingleStep` as a program: one line in the test of each implementation."""

from collections.abc import Callable, Mapping

import numpy as np

from policies.policy import Policy, SingleStep, as_single
from user_rl.specs import Array, Box, Spec

DRAWS = 8
FAR = 1e6  # an observation that no training has seen


def check_policy(make_any: Callable[[int], SingleStep | Policy], observation: Mapping[str, Spec]) -> None:
    """Raises AssertionError or SpecError where `make_any(seed)` breaks the contract for observations of these specs."""

    def make(seed: int) -> SingleStep:
        return as_single(make_any(seed))

    seen = example_observation(observation, np.random.default_rng(0))
    _check_mode(make(0), seen)
    _check_exploration(make, seen)
    far = {n: (np.full_like(x, FAR) if x.dtype == np.float32 else x) for n, x in seen.items()}
    for explore in (False, True):
        make(0).action.check(make(0).act(far, explore=explore))


def example_observation(specs: Mapping[str, Spec], random: np.random.Generator) -> dict[str, Array]:
    """One read-only observation [...] by name, inside the specs' bounds."""
    return {name: values[0] for name, values in example_observations(specs, 1, random).items()}


def example_observations(specs: Mapping[str, Spec], count: int, random: np.random.Generator) -> dict[str, Array]:
    """`count` read-only observations by name, [count, ...]."""
    values = {name: _example(spec, count, random) for name, spec in specs.items()}
    for value in values.values():
        value.flags.writeable = False
    return values


def _example(spec: Spec, count: int, random: np.random.Generator) -> Array:
    if isinstance(spec, Box):
        values = random.standard_normal((count, *spec.shape), np.float32)
        return spec.clip(values)
    return random.integers(0, 256, (count, *spec.shape), np.uint8)


def _check_mode(policy: SingleStep, observation: Mapping[str, Array]) -> None:
    first = policy.act(observation, explore=False)
    policy.action.check(first)
    kept = first.copy()
    policy.act(observation, explore=True)
    assert np.array_equal(first, kept), "act overwrote the action that it had returned; return a new array"
    assert np.array_equal(policy.act(observation, explore=False), kept), "the mode differs for one observation"


def _check_exploration(make: Callable[[int], SingleStep], observation: Mapping[str, Array]) -> None:
    draws = [_draws(make(seed), observation) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1]), "one seed gave two sequences of actions; draw from your own generator"
    assert not np.array_equal(draws[0], draws[2]), "two seeds gave one sequence of actions; use the seed"
    assert len(np.unique(draws[0], axis=0)) > 1, "exploration repeats one action"


def _draws(policy: SingleStep, observation: Mapping[str, Array]) -> Array:
    actions = [policy.act(observation, explore=True) for _ in range(DRAWS)]
    for action in actions:
        policy.action.check(action)
    return np.stack(actions)
