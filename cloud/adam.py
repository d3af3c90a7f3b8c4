"""Adam over one set of parameters, with all of its state there from the start: it can be saved and loaded at any step.

Source: Kingma & Ba 2015, arXiv:1412.6980, algorithm 1, in torch's fused kernel. Differs from torch.optim.Adam: no
groups, no hooks, no options; a fifth of the overhead, which counts where a whole update takes ten milliseconds.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam(nn.Module):
    """Its state_dict is the moments and the step counts, and not the parameters."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        super().__init__()
        self.parameters_, self.learning_rate = list(parameters), learning_rate
        self._means = [torch.zeros_like(p) for p in self.parameters_]
        self._squares = [torch.zeros_like(p) for p in self.parameters_]
        self._steps = [torch.zeros((), device=p.device) for p in self.parameters_]  # the kernel wants one for each
        for i, state in enumerate(zip(self._means, self._squares, self._steps, strict=True)):
            for name, tensor in zip(("mean", "square", "step"), state, strict=True):
                self.register_buffer(f"{name}{i}", tensor)

    @torch.no_grad()
    def step(self, gradients: Iterable[Tensor]) -> None:
        """Moves the parameters against `gradients`, given in their order.

        The kernel walks through memory and heeds no strides: a gradient that lies otherwise than its parameter, as
        those of convolutions over channels-last pictures do, is laid like it first.
        """
        torch._foreach_add_(self._steps, 1)
        torch._fused_adam_(
            self.parameters_, _laid(gradients, self.parameters_), self._means, self._squares, [], self._steps,
            lr=self.learning_rate, beta1=BETA1, beta2=BETA2, weight_decay=0.0, eps=EPSILON,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def descend(self, loss: Tensor) -> None:
        """One step on `loss`; whatever else it reaches is left alone."""
        self.step(torch.autograd.grad(loss, self.parameters_))


def _laid(gradients: Iterable[Tensor], parameters: list[Tensor]) -> list[Tensor]:
    """`gradients` with their parameters' strides."""
    pairs = zip(gradients, parameters, strict=True)
    return [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in pairs]
