"""Statistics of a dataset's features, as LeRobot's normalisers read them: per episode, and over all episodes.

Means and deviations are joined exactly (Chan et al. 1983); quantiles over all are the episodes' own, weighted by their
lengths. Pictures are looked at every so many frames and pixels, in [0, 1], per channel.
"""

from collections.abc import Mapping

import numpy as np

from user_rl.specs import Array

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
PICTURES = 32  # of an episode that are looked at
PIXELS = 64  # of a side that are looked at

Stats = dict[str, Array]


def stats_of(values: Array) -> Stats:
    """min, max, mean, std, quantiles [D] and count [1] of `values` [T, D], in float64."""
    values = values.astype(np.float64)
    found = {
        "min": values.min(axis=0), "max": values.max(axis=0), "mean": values.mean(axis=0), "std": values.std(axis=0),
        "count": np.array([len(values)], np.int64),
    }  # fmt: skip
    return found | {name: np.quantile(values, share, axis=0) for name, share in QUANTILES.items()}


def picture_stats(pictures: Array) -> Stats:
    """The same of pictures [T, H, W, C], each figure [C, 1, 1]; `count` is the pictures that were looked at."""
    some = pictures[:: -(-len(pictures) // PICTURES)]
    height, width = (-(-side // PIXELS) for side in some.shape[1:3])
    pixels = some[:, ::height, ::width].reshape(-1, some.shape[-1]) / 255.0
    found = {name: value.reshape(-1, 1, 1) for name, value in stats_of(pixels).items()}
    return found | {"count": np.array([len(some)], np.int64)}


def joined(parts: list[Stats]) -> Stats:
    """The statistics over all the parts."""
    count = np.array([part["count"][0] for part in parts], np.float64)
    weight = (count / count.sum()).reshape(-1, *[1] * parts[0]["mean"].ndim)
    mean = sum_of(weight, parts, "mean")
    spread = np.stack([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    found = {
        "min": np.min([part["min"] for part in parts], axis=0), "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean, "std": np.sqrt((weight * spread).sum(axis=0)), "count": np.array([int(count.sum())], np.int64),
    }  # fmt: skip
    return found | {name: sum_of(weight, parts, name) for name in QUANTILES}


def sum_of(weight: Array, parts: list[Stats], name: str) -> Array:
    """The weighted mean of one figure."""
    total: Array = (weight * np.stack([part[name] for part in parts])).sum(axis=0)
    return total


def plain(stats: Mapping[str, Stats]) -> dict[str, dict[str, list[float]]]:
    """For JSON."""
    return {name: {key: value.tolist() for key, value in found.items()} for name, found in stats.items()}
