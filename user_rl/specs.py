"""Specs: what a vector or an image is, with names, units and bounds. They travel with the object that they describe.

A spec is checked at the four seams (driver in, driver out, wire in, batch in) and trusted between them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from operator import le
from typing import Any

import numpy as np
from numpy.typing import NDArray

from user_rl.errors import SpecError

Array = NDArray[Any]
SHORT = 32  # elements; below it numpy's calls cost more than Python's own


@dataclass(frozen=True, kw_only=True)
class Box:
    """A float32 vector whose elements have names, units and inclusive bounds (±inf where there is none)."""

    name: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.names), len(self.units), len(self.low), len(self.high)}
        if len(sizes) != 1:
            raise SpecError(f"{self.name}: names, units, low and high must be of one length, got {sorted(sizes)}")
        for bound in ("low", "high"):  # floats, so that equal specs have equal bytes
            object.__setattr__(self, bound, tuple(float(x) for x in getattr(self, bound)))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.names),)

    @property
    def dtype(self) -> str:
        return "float32"

    def check(self, value: Array) -> None:
        """Raises SpecError naming the first element that is not finite or leaves its bounds."""
        _check_form(self.name, value, self._shape, _FLOAT32)
        if not self.has(value):
            low, high = self._bounds
            self._refuse(int(np.argmin((value >= low) & (value <= high) & np.isfinite(value))), value)

    def has(self, value: Array) -> bool:
        """Whether every element is finite and within its bounds."""
        if len(value) > SHORT:
            low, high = self._bounds
            return bool(((value >= low) & (value <= high)).all() and (self._is_finite or np.isfinite(value).all()))
        (lows, highs), numbers = self._lists, value.tolist()
        inside = all(map(le, lows, numbers)) and all(map(le, numbers, highs))
        return inside and (self._is_finite or all(map(isfinite, numbers)))

    def clip(self, value: Array) -> Array:
        """The nearest vector inside the bounds, float32."""
        low, high = self._bounds
        return np.minimum(np.maximum(value, low), high).astype(np.float32, copy=False)

    @cached_property
    def _bounds(self) -> tuple[Array, Array]:
        return np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)

    @cached_property
    def _lists(self) -> tuple[list[float], list[float]]:
        low, high = self._bounds
        return low.tolist(), high.tolist()

    @cached_property
    def _is_finite(self) -> bool:
        return bool(np.isfinite(self._bounds).all())

    @cached_property
    def _shape(self) -> tuple[int, ...]:
        return self.shape

    def _refuse(self, i: int, value: Array) -> None:
        unit = f" {self.units[i]}" if self.units[i] else ""
        raise SpecError(
            f"{self.name}.{self.names[i]} = {float(value[i]):.4g}{unit}, "
            f"allowed [{self.low[i]:.4g}, {self.high[i]:.4g}]; mend what produced it"
        )


@dataclass(frozen=True, kw_only=True)
class Image:
    """A uint8 picture, [height, width, channels]."""

    name: str
    height: int
    width: int
    channels: int = 3

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.height, self.width, self.channels)

    @property
    def dtype(self) -> str:
        return "uint8"

    def check(self, value: Array) -> None:
        """Raises SpecError for another shape or dtype."""
        _check_form(self.name, value, self.shape, _UINT8)


Spec = Box | Image


def box(name: str, elements: Sequence[tuple[str, str, float, float]]) -> Box:
    """A Box from (name, unit, low, high) rows, which read as the table they are."""
    names, units, low, high = zip(*elements, strict=True)
    return Box(name=name, names=names, units=units, low=low, high=high)


_FLOAT32, _UINT8 = np.dtype(np.float32), np.dtype(np.uint8)


def _check_form(name: str, value: Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if not isinstance(value, np.ndarray):
        raise SpecError(f"{name} is a {type(value).__name__}, allowed a numpy array {dtype}{list(shape)}; convert it")
    if value.shape != shape or value.dtype != dtype:
        raise SpecError(
            f"{name} is {value.dtype}{list(value.shape)}, allowed {dtype}{list(shape)}; mend what produced it"
        )
