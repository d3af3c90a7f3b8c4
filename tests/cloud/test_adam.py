"""Adam: torch's own numbers, with a state that can be saved before the first step."""

import pytest
import torch
from torch import Generator

from cloud.adam import Adam


@pytest.mark.slow  # torch.optim takes seconds to import
def test_it_moves_as_torchs_own() -> None:
    generator = Generator().manual_seed(0)
    ours = [
        torch.randn(4, 3, generator=generator).requires_grad_(),
        torch.randn(2, generator=generator).requires_grad_(),
    ]
    theirs = [p.detach().clone().requires_grad_() for p in ours]
    adam, reference = Adam(ours, 1e-2), torch.optim.Adam(theirs, lr=1e-2)
    for _ in range(20):
        gradients = [torch.randn(p.shape, generator=generator) for p in ours]
        adam.step(gradients)
        for p, gradient in zip(theirs, gradients, strict=True):
            p.grad = gradient
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_descending_moves_its_own_parameters_and_nothing_else() -> None:
    own, other = torch.tensor(3.0).requires_grad_(), torch.tensor(2.0).requires_grad_()
    Adam([own], 0.5).descend((own * other).square())
    assert (float(own.detach()), float(other.detach())) == (2.5, 2.0)
    assert own.grad is None
    assert other.grad is None


def test_its_state_is_there_from_the_start_and_holds_no_parameter() -> None:
    state = Adam([torch.ones(2), torch.ones(3)], 1e-3).state_dict()
    assert sorted(state) == ["mean0", "mean1", "square0", "square1", "step0", "step1"]
    assert not any(value.any() for value in state.values())


def test_a_gradient_that_lies_otherwise_in_memory_moves_the_same_elements() -> None:
    gradient = torch.randn(4, 3, 2, 2, generator=Generator().manual_seed(0))
    own, other = torch.zeros(4, 3, 2, 2), torch.zeros(4, 3, 2, 2)
    Adam([own], 0.1).step([gradient])
    Adam([other], 0.1).step([gradient.contiguous(memory_format=torch.channels_last)])
    assert torch.equal(own, other)
    assert torch.equal(own.sign(), -gradient.sign())
