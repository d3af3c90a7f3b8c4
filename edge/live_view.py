"""What the live stream shows: the newest row in the ring and control's last word, read without control's help.

Pictures are made small by taking every n-th pixel, averaged with its neighbours, and become JPEG where simplejpeg is
installed (`user-rl[codecs]`); without it there is the state alone.
"""

import importlib
import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edge.orders import Report
from edge.ring import Ring
from edge.shared import Shared
from user_rl.specs import Array

log = logging.getLogger(__name__)

IMAGES: Final = "observation.images."
STATE: Final = "observation.state"
WIDTHS: Final = (160, 80)  # of a picture at most, the first that the link can take
QUALITY: Final = 60


@dataclass(frozen=True)
class Seen:
    """One look at the cell. `images`: by camera, as recorded."""

    report: Report
    step: int
    stamp_s: float
    robot: bytes  # float32
    images: dict[str, Array]


class View:
    """Reads, from any one thread, with a map of the memory of its own."""

    def __init__(self, shared: Shared, ring: Ring, cell: str) -> None:
        self._shared, self._ring, self.cell = shared, ring, cell
        names = ring.schema.dtype.names or ()
        self._cameras = [n for n in names if n.startswith(IMAGES) and ring.schema.dtype[n].shape[2:] in ((1,), (3,))]
        self._jpeg = _library() if self._cameras else None

    def look(self) -> Seen:
        """The newest row, whole or nearly: nobody learns from it."""
        report = self._shared.report.read() or Report()
        batch = self._ring.last()
        if batch is None:
            return Seen(report, -1, 0.0, b"", {})
        row = batch.rows[0]
        robot = row[STATE].astype("<f4").tobytes()[:4096] if STATE in (batch.rows.dtype.names or ()) else b""
        images = {name.removeprefix(IMAGES): row[name] for name in self._cameras} if self._jpeg else {}
        return Seen(report, int(row["step"]), float(row["stamp.action"]), robot, images)

    def picture(self, image: Array, most_bytes: float) -> bytes | None:
        """A JPEG of at most so many bytes; None where even a small one is larger."""
        for width in WIDTHS:
            data = self._encoded(smaller(image, width))
            if len(data) <= most_bytes:
                return data
        return None

    def _encoded(self, image: Array) -> bytes:
        colors = "RGB" if image.shape[2] == 3 else "GRAY"
        data: bytes = self._jpeg.encode_jpeg(  # type: ignore[union-attr]  # there are no images without it
            image, quality=QUALITY, colorspace=colors, colorsubsampling="420" if colors == "RGB" else "Gray"
        )
        return data


def smaller(image: Array, width: int) -> Array:
    """`image` [H, W, C], at most `width` wide: every n-th pixel, averaged over 2 by 2 where n is 2 or more."""
    step = -(-image.shape[1] // width)
    if step == 1:
        return np.ascontiguousarray(image)
    height, wide = image.shape[0] // step * step, image.shape[1] // step * step
    whole, half = image[:height, :wide].astype(np.uint16), step // 2
    parts = np.stack([whole[y::step, x::step] for y in (0, half) for x in (0, half)])
    return np.ascontiguousarray(np.add.reduce(parts, axis=0, dtype=np.uint16) // 4, np.uint8)


def _library() -> Any:  # noqa: ANN401  # a module without types
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        log.info("no simplejpeg: the live stream is without pictures; install user-rl[codecs]")
        return None
