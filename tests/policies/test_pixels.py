"""What looks at cameras: shapes, ranges, and shifts that are exact."""

import numpy as np
import pytest
import torch
from torch import Generator

from policies.pixels import Pixels, random_shift

NAMES = {"observation.images.b": (64, 64, 3), "observation.images.a": (128, 128, 3)}


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def images(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=seeded(5))


def test_each_camera_gives_its_features_in_the_order_of_names() -> None:
    pixels = Pixels(NAMES, 8, seeded())
    seen = {"observation.images.b": images(2, 64, 64), "observation.images.a": images(2, 128, 128)}
    out = pixels(seen).detach()
    assert out.shape == (2, 16)
    raw = out.double().atanh().reshape(2, 2, 8)  # tanh of a LayerNorm
    torch.testing.assert_close(raw.mean(dim=2), torch.zeros(2, 2).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(raw.var(dim=2, correction=0), torch.ones(2, 2).double(), atol=1e-2, rtol=0)
    other = pixels(seen | {"observation.images.b": 255 - seen["observation.images.b"]}).detach()
    assert torch.equal(out[:, :8], other[:, :8])
    assert not torch.equal(out[:, 8:], other[:, 8:])


def test_pixels_enter_as_numbers_around_zero() -> None:
    pixels = Pixels({"observation.images.a": (32, 32, 3)}, 4, seeded())
    entered: list[torch.Tensor] = []
    handle = pixels.cameras[0].register_forward_pre_hook(lambda _, args: entered.append(args[0]))
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[0, 3, 7] = torch.tensor([255, 51, 0], dtype=torch.uint8)
    pixels({"observation.images.a": image})
    handle.remove()
    assert entered[0].shape == (1, 3, 32, 32)
    torch.testing.assert_close(entered[0][0, :, 3, 7], torch.tensor([0.5, -0.3, -0.5]))
    assert int(image[0, 3, 7, 0]) == 255, "the image itself was changed"


def test_a_shift_is_the_padded_image_cropped_elsewhere() -> None:
    image_bhwc, pad = images(32, 9, 11), 4
    moved = random_shift(image_bhwc, pad, seeded()).numpy()
    assert moved.shape == image_bhwc.shape
    assert moved.dtype == np.uint8
    padded = np.pad(image_bhwc.numpy(), ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    offsets = [crop_offset(padded[i], moved[i]) for i in range(32)]
    assert {0, 8} <= {o[0] for o in offsets} | {o[1] for o in offsets}, "the whole range of ±4 is used"
    assert len(set(offsets)) > 20, "each image has an offset of its own"
    assert any(o[0] != o[1] for o in offsets), "rows and columns move apart"


def crop_offset(padded: np.ndarray, moved: np.ndarray) -> tuple[int, int]:
    height, width, _ = moved.shape
    found = [(y, x) for y in range(9) for x in range(9) if np.array_equal(padded[y : y + height, x : x + width], moved)]
    assert len(found) == 1
    return found[0]


def test_no_pad_leaves_images_as_they_are_and_a_seed_repeats_its_shifts() -> None:
    image_bhwc = images(4, 8, 8)
    assert torch.equal(random_shift(image_bhwc, 0, seeded()), image_bhwc)
    assert torch.equal(random_shift(image_bhwc, 4, seeded(1)), random_shift(image_bhwc, 4, seeded(1)))


@pytest.mark.slow
def test_an_encoder_can_tell_where_a_spot_is() -> None:
    generator, pixels = seeded(), Pixels({"observation.images.a": (31, 31, 3)}, 16, seeded())
    head = torch.nn.Linear(16, 1)
    torch.nn.init.constant_(head.weight, 0.1)
    adam = torch.optim.Adam([*pixels.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(150):
        column_b = torch.randint(4, 27, (64,), generator=generator)
        image_bhwc = torch.zeros(64, 31, 31, 3, dtype=torch.uint8)
        image_bhwc[torch.arange(64), 15, column_b] = 255
        loss = (head(pixels({"observation.images.a": image_bhwc}))[:, 0] - (column_b - 15) / 11).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.05  # the columns' variance is 0.36
