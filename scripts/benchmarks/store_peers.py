"""Other libraries' replay buffers, those that are installed, on the same rows and in the same process.

They are asked for what they are made for: a batch of 256 transitions with next observations, all in memory. What each
returns (numpy or torch, copies or not) is its own affair; every byte of it is read.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from scripts.benchmarks.store_rows import BATCH, SCHEMA
from user_rl.specs import Array

Sample = Callable[[int], list[Array]]


def stable_baselines3(rows: Array) -> Sample:
    """`DictReplayBuffer`."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import DictReplayBuffer

    boxes = {name: _box(spaces, name) for name in SCHEMA.observation}
    action = spaces.Box(-1, 1, (7,), np.float32)
    buffer = DictReplayBuffer(len(rows), spaces.Dict(boxes), action, device="cpu", handle_timeout_termination=False)
    for i in _steps(rows):
        here, after = ({n: rows[n][j][None] for n in SCHEMA.observation} for j in (i, i + 1))
        row = rows[i]
        buffer.add(here, after, row["action"][None], row["next.reward"][None], row["next.done"][None], [{}])
    return lambda _: _tensors(buffer.sample(BATCH))


def torchrl(rows: Array) -> Sample:
    """`ReplayBuffer` with `LazyTensorStorage`."""
    import torch
    from tensordict import TensorDict
    from torchrl.data import LazyTensorStorage, ReplayBuffer

    steps = _steps(rows)
    names = [*SCHEMA.observation, "action", "next.reward", "next.done"]
    tree = {name: torch.from_numpy(rows[name][steps]) for name in names}
    tree |= {f"after.{name}": torch.from_numpy(rows[name][steps + 1]) for name in SCHEMA.observation}
    buffer = ReplayBuffer(storage=LazyTensorStorage(len(steps)), batch_size=BATCH)
    buffer.extend(TensorDict(tree, batch_size=[len(steps)]))
    return lambda _: [value.numpy() for value in buffer.sample().values() if value.ndim]


def cpprb(rows: Array) -> Sample:
    """`ReplayBuffer` with a next observation of its own."""
    from cpprb import ReplayBuffer

    steps = _steps(rows)
    kinds = {name: {"shape": rows.dtype[name].shape or 1, "dtype": rows.dtype[name].base} for name in _names()}
    kinds |= {f"after.{name}": kinds[name] for name in SCHEMA.observation}
    buffer = ReplayBuffer(len(steps), kinds)
    for i in steps:
        buffer.add(**{n: rows[n][i] for n in _names()}, **{f"after.{n}": rows[n][i + 1] for n in SCHEMA.observation})
    return lambda _: list(buffer.sample(BATCH).values())


PEERS: dict[str, Callable[[Array], Sample]] = {
    "stable_baselines3": stable_baselines3, "torchrl": torchrl, "cpprb": cpprb
}  # fmt: skip


def installed() -> dict[str, Callable[[Array], Sample]]:
    """The peers that can be imported here; the others are named."""
    found = {name: make for name, make in PEERS.items() if importlib.util.find_spec(name)}
    missing = ", ".join(sorted(PEERS.keys() - found.keys()))
    print(f"peers installed: {', '.join(found) or 'none'}; not installed: {missing or 'none'}", flush=True)
    return found


def _names() -> list[str]:
    return [*SCHEMA.observation, "action", "next.reward", "next.done"]


def _steps(rows: Array) -> Array:
    return np.flatnonzero(rows["kind"][:-1] == 0)


def _box(spaces: Any, name: str) -> Any:  # noqa: ANN401  # gymnasium may not be here
    dtype = SCHEMA.dtype[name]
    low, high = (0, 255) if dtype.base == np.uint8 else (-np.inf, np.inf)
    return spaces.Box(low, high, dtype.shape, dtype.base)


def _tensors(sample: Any) -> list[Array]:  # noqa: ANN401  # a named tuple of tensors and dictionaries of them
    found = [sample.observations, sample.next_observations, sample.actions, sample.rewards, sample.dones]
    flat = [each for part in found for each in (part.values() if isinstance(part, dict) else [part])]
    return [tensor.numpy() for tensor in flat]
