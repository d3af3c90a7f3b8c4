"""The contract of `Algorithm` as a program: one line in the test of each implementation."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cloud.algorithm import Algorithm
from cloud.batch import Batch
from policies.kits import check_policy, example_observations
from policies.registry import loader
from user_rl.errors import ConfigError
from user_rl.rows import Schema

UPDATES = 3


def check_algorithm(make: Callable[[int], Algorithm], schema: Schema, *, batch_size: int = 16) -> None:
    """Raises AssertionError where `make(seed)` breaks the contract on rows of `schema`."""
    batches = [example_batch(schema, batch_size, seed=i) for i in range(2 * UPDATES)]
    before = torch.get_rng_state()
    algorithm = _started(make, batches, seed=0)
    _check_metrics(algorithm, batches[0])
    _check_policy(algorithm, schema, batches[1])
    _check_resume(make, batches)
    _check_foreign_state(algorithm)
    assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used; draw from your own"


def example_batch(schema: Schema, count: int, *, seed: int) -> Batch:
    """`count` read-only transitions of random numbers inside the schema's bounds; a tenth of them terminate."""
    random = np.random.default_rng(seed)
    low, high = np.asarray(schema.action.low), np.asarray(schema.action.high)
    return Batch(
        observation=example_observations(schema.observation, count, random),
        action=schema.action.clip(random.uniform(low, high, (count, len(low)))),
        reward=random.standard_normal(count, np.float32),
        done=random.random(count) < 0.1,
        next_observation=example_observations(schema.observation, count, random),
    )


def _started(make: Callable[[int], Algorithm], batches: list[Batch], *, seed: int) -> Algorithm:
    algorithm = make(seed)
    algorithm.fit_normaliser(batches[0].observation)
    return algorithm


def _check_metrics(algorithm: Algorithm, batch: Batch) -> None:
    for name, value in algorithm.update(batch).items():
        assert isinstance(value, Tensor), f"{name} is a {type(value).__name__}; leave metrics on the device"
        assert value.ndim == 0, f"{name} has shape {list(value.shape)}; metrics are scalars"
        assert not value.requires_grad, f"{name} holds its graph; detach it"
        assert torch.isfinite(value), f"{name} = {float(value)} on plain random numbers"


def _check_policy(algorithm: Algorithm, schema: Schema, batch: Batch) -> None:
    spec, tensors = algorithm.policy_spec(), algorithm.policy_tensors()
    check_policy(lambda seed: loader(spec.kind)(spec, tensors, seed=seed), schema.observation)
    kept = {name: value.copy() for name, value in tensors.items()}
    algorithm.update(batch)
    now = algorithm.policy_tensors()
    assert all(np.array_equal(tensors[n], kept[n]) for n in kept), "an update changed published tensors; copy them"
    assert any(not np.array_equal(now[n], kept[n]) for n in kept), "an update left the policy as it was"
    fixed = [n for n in kept if n.startswith("normaliser.")]
    assert fixed, "the normaliser is not in the version"
    assert all(np.array_equal(now[n], kept[n]) for n in fixed), "an update moved the normaliser"


def _check_resume(make: Callable[[int], Algorithm], batches: list[Batch]) -> None:
    algorithm = _started(make, batches, seed=0)
    for batch in batches[:UPDATES]:
        algorithm.update(batch)
    saved = algorithm.state_dict()
    kept = {name: value.clone() for name, value in saved.items()}
    successor = make(1)
    successor.load_state_dict(saved)
    for batch in batches[UPDATES:]:
        algorithm.update(batch)
        successor.update(batch)
    assert _same(saved, kept), "the saved state changed with later updates; copy it"
    assert _same(algorithm.state_dict(), successor.state_dict()), "a resumed learner took another path"


def _check_foreign_state(algorithm: Algorithm) -> None:
    state = algorithm.state_dict()
    first = next(iter(state))
    for wrong in ({n: v for n, v in state.items() if n != first}, state | {"more": torch.zeros(1)}):
        try:
            algorithm.load_state_dict(wrong)
        except ConfigError:
            continue
        raise AssertionError(f"a state with other names than its own was loaded; check {first}")


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
