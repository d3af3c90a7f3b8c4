"""The state of modules, generators and tensors as one flat dict of tensors: a checkpoint needs no pickle.

Everything is copied in place on loading, so that references which others hold (an optimiser's to a module) stay true.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Generator, Tensor, nn

from user_rl.errors import ConfigError

Part = nn.Module | Generator | Tensor


def pack(parts: Mapping[str, Part]) -> dict[str, Tensor]:
    """Copies of every tensor, on the host, named `part.name`."""
    return {name: live.detach().to("cpu", copy=True) for name, _, live in _walk(parts)}


@torch.no_grad()
def unpack(parts: Mapping[str, Part], state: Mapping[str, Tensor]) -> None:
    """Puts what `pack` took into `parts`; raises ConfigError, with nothing changed, when names or shapes differ."""
    rows = list(_walk(parts))
    _check({name: live for name, _, live in rows}, state)
    for name, owner, live in rows:
        if isinstance(owner, Generator):
            owner.set_state(state[name].clone())
        else:
            live.copy_(state[name])


def _walk(parts: Mapping[str, Part]) -> Iterator[tuple[str, Part, Tensor]]:
    for part, owner in parts.items():
        if isinstance(owner, nn.Module):
            yield from ((f"{part}.{name}", owner, live) for name, live in owner.state_dict(keep_vars=True).items())
        else:
            yield part, owner, owner.get_state() if isinstance(owner, Generator) else owner


def _check(live: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name in sorted(live.keys() | state.keys()):
        allowed, found = _form(live.get(name)), _form(state.get(name))
        if allowed != found:
            raise ConfigError(
                f"checkpoint: {name} is {found}, allowed {allowed}; resume with the configuration that wrote it"
            )


def _form(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
