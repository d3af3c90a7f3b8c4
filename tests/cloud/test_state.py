"""The flat state: what is packed comes back in place, bit for bit; anything else is refused whole."""

import pytest
import torch
from safetensors.torch import load, save
from torch import Generator, Tensor, nn

from cloud.state import Part, pack, unpack
from user_rl.errors import ConfigError


def make(seed: int) -> dict[str, Part]:
    generator = Generator().manual_seed(seed)
    module = nn.BatchNorm1d(3)
    nn.init.normal_(module.weight, generator=generator)
    return {"module": module, "generator": generator, "count": torch.tensor(seed)}


def test_packed_parts_come_back_in_place() -> None:
    source, parts = make(1), make(2)
    module, count, generator = parts["module"], parts["count"], parts["generator"]
    assert isinstance(module, nn.BatchNorm1d)
    assert isinstance(generator, Generator)
    weight = module.weight
    unpack(parts, pack(source))
    assert module.weight is weight
    assert int(count) == 1  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(pack(source).values(), pack(parts).values(), strict=True))
    twin = source["generator"]
    assert isinstance(twin, Generator)
    assert torch.equal(torch.empty(9).normal_(generator=generator), torch.empty(9).normal_(generator=twin))


def test_a_packed_state_is_a_copy_and_so_is_what_is_loaded() -> None:
    parts, count = make(1), torch.tensor(5)
    parts["count"] = count
    state = pack(parts)
    count += 1
    assert int(state["count"]) == 5
    unpack(parts, state)
    state["count"] += 10
    assert int(count) == 5


def test_the_state_passes_through_safetensors() -> None:
    state = pack(make(1))
    assert sorted(state)[:2] == ["count", "generator"]
    read = load(save(state))
    assert all(torch.equal(read[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": None}, r"checkpoint: count is absent, allowed int64\[\]; resume with the configuration"),
        ({"more": torch.zeros(2)}, r"checkpoint: more is float32\[2\], allowed absent"),
        ({"module.weight": torch.zeros(4)}, r"checkpoint: module.weight is float32\[4\], allowed float32\[3\]"),
        (
            {"module.weight": torch.zeros(3).double()},
            r"checkpoint: module.weight is float64\[3\], allowed float32\[3\]",
        ),
    ],
)
def test_a_state_of_something_else_changes_nothing(change: dict[str, Tensor | None], message: str) -> None:
    parts = make(2)
    before, state = pack(parts), pack(make(1)) | change
    with pytest.raises(ConfigError, match=message):
        unpack(parts, {name: value for name, value in state.items() if value is not None})
    assert all(torch.equal(before[name], now) for name, now in pack(parts).items())
