"""One frame of a video: the cameras side by side, and under them who acted, where in the episode, and how well.

Small cameras are enlarged by whole factors, without smoothing, so that what is seen is what the policy saw. The bar
above the caption is blue while the policy acts and orange while a person does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from user_rl.specs import Array, Image

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

LEAST_HEIGHT, LEAST_WIDTH = 240, 360  # pixels of the cameras' part; smaller ones are enlarged
GAP, BAR, MARGIN = 2, 6, 10  # pixels between cameras, of the bar, around the caption
FONT_SHARE, FONT_LEAST, FONT_MOST = 30, 13, 22  # of the width; pixels

Colour = tuple[int, int, int]
BACKGROUND: Colour = (21, 24, 29)
POLICY: Colour = (59, 157, 221)
TELEOP: Colour = (242, 140, 40)
BRIGHT: Colour = (232, 234, 237)
DIM: Colour = (154, 160, 166)
GOOD: Colour = (92, 201, 123)


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What stands under one frame."""

    title: str  # which episode
    step: int
    steps: int
    by_person: bool
    source: str  # in words
    version: int  # 0: none
    reward_sum: float  # until this frame
    outcome: str = ""  # once it is known
    success: bool = False


class Layout:
    """Where everything stands, for one set of cameras. `size` is (width, height), both even."""

    def __init__(self, cameras: Mapping[str, Image]) -> None:
        from PIL import ImageFont

        scale = _scale(cameras)
        self._height = max(c.height for c in cameras.values()) * scale
        self._widths = {name: round(c.width * self._height / c.height) for name, c in cameras.items()}
        width = _even(sum(self._widths.values()) + GAP * (len(cameras) - 1))
        self._font = ImageFont.load_default(min(max(width // FONT_SHARE, FONT_LEAST), FONT_MOST))
        self._line = ceil(sum(self._font.getbbox("Ag|")[1::2]) * 1.05)
        self.size = (width, _even(self._height + BAR + 2 * MARGIN + 2 * self._line))

    def draw(self, images: Mapping[str, Array], caption: Caption) -> Array:
        """The frame, [height, width, 3] uint8."""
        from PIL import Image as Pil
        from PIL import ImageDraw

        canvas = Pil.new("RGB", self.size, BACKGROUND)
        draw, left = ImageDraw.Draw(canvas), 0
        for name, width in self._widths.items():
            camera = Pil.fromarray(_rgb(images[name])).resize((width, self._height), _filter(images[name], width))
            canvas.paste(camera, (left, 0))
            draw.text((left + 6, 3), name, BRIGHT, self._font, stroke_width=2, stroke_fill=BACKGROUND)
            left += width + GAP
        self._draw_caption(draw, caption)
        return np.asarray(canvas)

    def _draw_caption(self, draw: "ImageDraw", caption: Caption) -> None:
        width, top, actor = self.size[0], self._height, TELEOP if caption.by_person else POLICY
        draw.rectangle((0, top, width, top + BAR - 1), actor)
        first, second = top + BAR + MARGIN - 2, top + BAR + MARGIN - 2 + self._line
        draw.text((MARGIN, first), caption.title, BRIGHT, self._font)
        self._right(draw, first, f"step {caption.step}/{caption.steps}", BRIGHT)
        draw.text((MARGIN, second), caption.source, actor, self._font)
        after = MARGIN + draw.textlength(caption.source + "  ", self._font)
        draw.text((after, second), f"weights {caption.version}" if caption.version else "", DIM, self._font)
        left = self._right(draw, second, caption.outcome, GOOD if caption.success else DIM)
        self._right(draw, second, f"return {caption.reward_sum:.2f}" + "  " * bool(caption.outcome), DIM, left)

    def _right(self, draw: "ImageDraw", top: float, text: str, colour: Colour, edge: float | None = None) -> float:
        """Writes `text` so that it ends at `edge`; returns where it begins."""
        edge = self.size[0] - MARGIN if edge is None else edge
        left = edge - draw.textlength(text, self._font)
        draw.text((left, top), text, colour, self._font)
        return left


def _scale(cameras: Mapping[str, Image]) -> int:
    """The whole factor by which the tallest camera is enlarged."""
    tallest = max(c.height for c in cameras.values())
    width = sum(c.width * tallest / c.height for c in cameras.values())
    return max(1, ceil(LEAST_HEIGHT / tallest), ceil(LEAST_WIDTH / width))


def _filter(image: Array, width: int) -> int:
    from PIL.Image import Resampling

    return Resampling.BILINEAR if width % image.shape[1] else Resampling.NEAREST


def _rgb(image: Array) -> Array:
    """Three channels: grey is repeated, what is beyond the third is left out."""
    return np.repeat(image, 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])


def _even(pixels: int) -> int:
    return pixels + pixels % 2
