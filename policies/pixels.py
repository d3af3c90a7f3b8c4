"""What looks at cameras: a small convolutional encoder per camera, and random shifts.

Sources: random shift with edge padding, Yarats et al. 2021 (DrQ-v2, arXiv:2107.09645), here by whole pixels; encoder
output through LayerNorm and tanh, Kostrikov et al. 2020 (DrQ, arXiv:2004.13649). Differs: every convolution has stride
2, a sixth of the work at 128 x 128.

Shape letters: B batch, H height, W width, C channels, F features.
"""

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

CHANNELS, LAYERS, KERNEL, STRIDE = 32, 4, 3, 2


class Pixels(nn.Module):
    """Images by name, uint8 [B, H, W, C] → features [B, cameras x F], in the order of the names."""

    def __init__(self, images: Mapping[str, tuple[int, int, int]], features: int, generator: Generator) -> None:
        super().__init__()
        self.names = sorted(images)
        self.cameras = nn.ModuleList(_camera(images[name], features, generator) for name in self.names)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        pairs = zip(self.cameras, self.names, strict=True)
        return torch.cat([camera(_floats(observation[name])) for camera, name in pairs], dim=1)


def random_shift(image_bhwc: Tensor, pad: int, generator: Generator) -> Tensor:
    """Each image moved by its own whole offset within ±pad in both directions; its edge pixels repeat."""
    batch, height, width, _ = image_bhwc.shape
    device = image_bhwc.device
    offset_2b = torch.randint(-pad, pad + 1, (2, batch, 1), generator=generator, device=device)
    rows_bh = (torch.arange(height, device=device) + offset_2b[0]).clamp_(0, height - 1)
    columns_bw = (torch.arange(width, device=device) + offset_2b[1]).clamp_(0, width - 1)
    batch_b = torch.arange(batch, device=device)
    return image_bhwc[batch_b[:, None, None], rows_bh[:, :, None], columns_bw[:, None, :]]


def _floats(image_bhwc: Tensor) -> Tensor:
    """[B, C, H, W] in [-0.5, 0.5]; the memory stays channels-last, which convolutions on a CPU like."""
    return image_bhwc.permute(0, 3, 1, 2).float().div_(255.0).sub_(0.5)


def _camera(shape: tuple[int, int, int], features: int, generator: Generator) -> nn.Sequential:
    height, width, channels = shape
    parts: list[nn.Module] = []
    for _ in range(LAYERS):
        parts += [_conv(channels, generator), nn.ReLU(inplace=True)]
        channels, height, width = CHANNELS, _shrunk(height), _shrunk(width)
    linear = nn.utils.skip_init(nn.Linear, channels * height * width, features)
    _reset(linear, channels * height * width, generator)
    return nn.Sequential(*parts, nn.Flatten(), linear, nn.LayerNorm(features), nn.Tanh())


def _conv(channels: int, generator: Generator) -> nn.Conv2d:
    layer: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, channels, CHANNELS, KERNEL, STRIDE)
    _reset(layer, channels * KERNEL * KERNEL, generator)
    return layer


def _shrunk(size: int) -> int:
    return (size - KERNEL) // STRIDE + 1


def _reset(layer: nn.Conv2d | nn.Linear, inputs: int, generator: Generator) -> None:
    """He-uniform weights for ReLU, no bias."""
    bound = math.sqrt(6 / inputs)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # both layers are made with a bias
