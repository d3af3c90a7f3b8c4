"""The specs of a dataset's rows, where no run gives them: names from the dataset, bounds from what it holds."""

from collections.abc import Mapping

import numpy as np

from cloud.datasets.conversion import vectors
from cloud.datasets.mapping import PICTURES, SCALARS, Names
from cloud.datasets.recorded import Column, Dataset
from user_rl.errors import ConfigError, SpecError
from user_rl.rows import Schema, make_schema
from user_rl.specs import Box, Image, Spec


def inferred_schema(dataset: Dataset, names: Names) -> Schema:
    """Observations without bounds; actions within ±1 if all are, else within what occurs."""
    first = next(iter(dataset.episodes({name for theirs in names.values() for name in theirs})), None)
    if first is None:
        raise SpecError(f"{dataset.name}: has no episode, allowed one or more; give another dataset")
    observation: dict[str, Spec] = {}
    for ours in (name for name in names if name not in ("action", *SCALARS)):
        if ours.startswith(PICTURES):
            shape = first.columns[names[ours][0]].shape[1:]
            if len(shape) != 3:
                raise SpecError(f"{first.where}: {names[ours][0]} is {list(shape)}, allowed [height, width, channels]")
            observation[ours] = Image(
                name=ours.removeprefix(PICTURES), height=shape[0], width=shape[1], channels=shape[2]
            )
        else:
            elements = _elements(names[ours], dataset.columns)
            observation[ours] = _box(ours, elements, -np.inf, np.inf)
    return make_schema(observation, _action(dataset, names["action"]))


def fitted(names: Names, schema: Schema, whose: str) -> tuple[Names, list[str]]:
    """The names that rows of `schema` need, and the observations that they do not; raises ConfigError for a lack."""
    lacking = [name for name in schema.observation if name not in names]
    if lacking:
        raise ConfigError(
            f"{lacking[0]}: {whose} has it, the dataset offers {', '.join(names)}; name its column in --map FILE"
        )
    kept = {name: theirs for name, theirs in names.items() if name in (*schema.observation, "action", *SCALARS)}
    return kept, [name for name in names if name not in kept]


def _elements(theirs: tuple[str, ...], columns: Mapping[str, Column]) -> list[str]:
    found: list[str] = []
    for name in theirs:
        column = columns[name]
        width = int(np.prod(column.shape, dtype=int))
        found += column.names or ([name] if width == 1 else [f"{name}.{i}" for i in range(width)])
    return found


def _box(name: str, elements: list[str], low: float, high: float) -> Box:
    count = len(elements)
    return Box(name=name, names=tuple(elements), units=("",) * count, low=(low,) * count, high=(high,) * count)


def _action(dataset: Dataset, theirs: tuple[str, ...]) -> Box:
    elements = _elements(theirs, dataset.columns)
    low, high = np.full(len(elements), np.inf), np.full(len(elements), -np.inf)
    for raw in dataset.episodes(set(theirs)):
        values = vectors(raw, raw.columns, theirs)
        if values.shape[1] != len(elements):
            raise SpecError(f"{raw.where}: action has {values.shape[1]} values, described are {len(elements)}")
        low, high = np.minimum(low, np.nanmin(values, axis=0)), np.maximum(high, np.nanmax(values, axis=0))
    if (low >= -1.0).all() and (high <= 1.0).all():
        return _box("action", elements, -1.0, 1.0)
    return Box(name="action", names=tuple(elements), units=("",) * len(elements), low=tuple(low), high=tuple(high))
