"""Schemas of small cells, and one torch thread: other tests share the cores."""

import pytest
import torch

from user_rl.rows import Schema, make_schema
from user_rl.specs import Box, Image, Spec, box

ACTION = box("action", [("dx", "m", -0.015, 0.015), ("yaw", "rad", -0.1, 0.2), ("grip", "", 0.0, 1.0)])
STATE = Box(name="state", names=tuple("abcde"), units=("m",) * 5, low=(-9.0,) * 5, high=(9.0,) * 5)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def schema() -> Schema:
    return make_schema({"observation.state": STATE}, ACTION)


@pytest.fixture
def vision() -> Schema:
    cameras: dict[str, Spec] = {
        "observation.images.wrist": Image(name="wrist", height=64, width=64),
        "observation.images.front": Image(name="front", height=40, width=48),
    }
    return make_schema({"observation.state": STATE, **cameras}, ACTION)


@pytest.fixture
def masked() -> Schema:
    """Of cells that differ: the third element of the action is not everywhere."""
    flags = [(f"mask.{name}", "", 0.0, 1.0) for name in ACTION.names] + [("embodiment.a", "", 0.0, 1.0)]
    own = list(zip(STATE.names, STATE.units, STATE.low, STATE.high, strict=True))
    return make_schema({"observation.state": box("state", [*own, *flags])}, ACTION)
