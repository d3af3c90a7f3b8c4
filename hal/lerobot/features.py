"""Features: LeRobot's flat {name: type or shape} as named vectors with units and bounds, and as pictures.

A number is given as `float` (or int, bool), an array as its shape; a gamepad gives {"names": {name: place}} for all.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Array, Box, box

Features = Mapping[str, Any]  # as LeRobot gives them
NUMBERS = (float, int, bool)


def number_names(features: Features, ignored: tuple[str, ...] = ()) -> list[str]:
    """The names of what is a number, in LeRobot's order; raises ConfigError for what is neither number nor array."""
    places = features.get("names")
    if isinstance(places, Mapping):
        return sorted(places, key=lambda name: int(places[name]))
    strange = [
        f"{name} ({kind})"
        for name, kind in features.items()
        if name not in ignored and kind not in NUMBERS and not isinstance(kind, tuple)
    ]
    if strange:
        raise ConfigError(f"{', '.join(strange)}: allowed numbers and arrays; leave it out with ignore=[NAME]")
    return [name for name, kind in features.items() if kind in NUMBERS and name not in ignored]


def image_shapes(features: Features) -> dict[str, tuple[int, int]]:
    """Height and width of what is a picture of three channels; depth and other arrays are not offered."""
    return {
        name: (kind[0], kind[1])
        for name, kind in features.items()
        if isinstance(kind, tuple) and len(kind) == 3 and kind[2] == 3
    }


def make_box(name: str, names: list[str], path: str, *bounds: Mapping[str, Any]) -> Box:
    """The vector of `names`, each bounded by the first of `bounds` that has it, or a pattern of it."""
    rows = [(feature, *_row(feature, path, bounds)) for feature in names]
    if not rows:
        raise ConfigError(f"{path}: LeRobot names no number for {name}; choose another type")
    return box(name, rows)


def vector(values: Mapping[str, Any], names: tuple[str, ...], what: str) -> Array:
    """The numbers of `names` out of what LeRobot returned; raises HardwareError for one that is missing."""
    try:
        return np.array([float(values[name]) for name in names], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise HardwareError(f"{what} gave {sorted(values)}, without a number for {error}; mend its plugin") from error


def _row(feature: str, path: str, bounds: tuple[Mapping[str, Any], ...]) -> tuple[str, float, float]:
    for given in bounds:
        for pattern, bound in given.items():
            if fnmatchcase(feature, pattern):
                return _bound(f"{path}.{pattern}", bound)
    raise ConfigError(
        f"{path}.{feature}: not set; LeRobot gives no bounds, give {path}={{{feature}: [LOW, HIGH, UNIT]}}"
    )


def _bound(path: str, bound: Any) -> tuple[str, float, float]:  # noqa: ANN401  # whatever the configuration holds
    try:
        low, high, unit = (*bound, "")[:3]
        low, high = float(low), float(high)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} = {bound!r}, allowed [LOW, HIGH] or [LOW, HIGH, UNIT]; change it") from error
    if not low < high:
        raise ConfigError(f"{path} = {bound!r}, allowed LOW below HIGH; change it")
    return str(unit), low, high
