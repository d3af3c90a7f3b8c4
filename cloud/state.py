"""The state of modules, optimisers and generators as one flat dict of tensors: a checkpoint needs no pickle.

Everything is copied in place on loading, so references that others hold (an optimiser's to a module) stay true.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Generator, Tensor, nn
from torch.optim import Adam, Optimizer

from user_rl.errors import ConfigError

Part = nn.Module | Optimizer | Generator | Tensor


def make_adam(parameters: Iterable[Tensor], learning_rate: float) -> Adam:
    """Fused Adam whose moments exist before the first step, so that a fresh one can be loaded into."""
    adam = Adam(list(parameters), lr=learning_rate, fused=True)
    for p in adam.param_groups[0]["params"]:
        step = torch.zeros((), device=p.device)
        adam.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
    return adam


def pack(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Copies of every tensor, on the host, named `part.name`."""
    return {name: live.detach().to("cpu", copy=True) for name, owner, live in _all(parts)}


@torch.no_grad()
def unpack(parts: Mapping[str, Part], state: Mapping[str, Tensor]) -> None:
    """Puts what `pack` took into `parts`; raises ConfigError, with nothing changed, when names or shapes differ."""
    rows = list(_all(parts))
    expected = {name: tuple(live.shape) for name, owner, live in rows}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"checkpoint: {name} is {found.get(name, 'not there')}, allowed {expected.get(name, 'nothing')}; "
                "resume with the configuration that it was written with"
            )
    for name, owner, live in rows:
        if isinstance(owner, Generator):
            owner.set_state(state[name].clone())
        else:
            live.copy_(state[name])


def _all(parts: Mapping[str, Part]) -> Iterator[tuple[str, Part, Tensor]]:
    for part, owner in parts.items():
        for name, live in _tensors(owner):
            yield f"{part}.{name}", owner, live


def _tensors(owner: Part) -> Iterator[tuple[str, Tensor]]:
    if isinstance(owner, nn.Module):
        yield from owner.state_dict(keep_vars=True).items()
    elif isinstance(owner, Optimizer):
        for i, p in enumerate(p for group in owner.param_groups for p in group["params"]):
            yield from ((f"{i}.{key}", value) for key, value in owner.state[p].items())
    elif isinstance(owner, Generator):
        yield "state", owner.get_state()
    else:
        yield "value", owner
