"""user_rl.specs: a value is inside its spec, or the error says which element, what, and what was allowed."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from user_rl.errors import SpecError
from user_rl.specs import SHORT, Box, Image, box

ARM = box("command", [("dx", "m", -0.1, 0.1), ("dyaw", "rad", -1, 1)])


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_value_inside_its_bounds_passes() -> None:
    ARM.check(f32(0.1, -1.0))


@pytest.mark.parametrize("bad", [0.2, -0.2, math.nan, math.inf])
def test_an_element_outside_its_bounds_is_named_with_unit_value_and_range(bad: float) -> None:
    message = f"command.dx = {bad:.4g} m, allowed [-0.1, 0.1]; mend what produced it"
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        ARM.check(f32(bad, 0))


def test_bounds_are_compared_in_the_values_own_precision() -> None:
    box("q", [("yaw", "rad", -math.pi, math.pi)]).check(f32(math.pi))


def test_an_unbounded_element_must_still_be_finite() -> None:
    free = box("q", [("x", "", -math.inf, math.inf)])
    free.check(f32(1e30))
    with pytest.raises(SpecError, match=r"^q\.x = inf, allowed \[-inf, inf\]; mend what produced it$"):
        free.check(f32(math.inf))


@pytest.mark.parametrize("value", [np.zeros(3, np.float32), np.zeros(2, np.float64), np.zeros((2, 1), np.float32)])
def test_another_shape_or_dtype_is_refused(value: np.ndarray) -> None:
    with pytest.raises(SpecError, match=r"^command is float\d+\[.*\], allowed float32\[2\]; mend what produced it$"):
        ARM.check(value)


def test_a_list_is_not_an_array() -> None:
    with pytest.raises(SpecError, match=r"^command is a list, allowed a numpy array float32\[2\]; convert it$"):
        ARM.check([0.0, 0.0])  # type: ignore[arg-type]


def test_an_image_has_a_size_and_bytes() -> None:
    camera = Image(name="front", height=2, width=3)
    camera.check(np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(SpecError, match=r"^front is uint8\[3, 2, 3\], allowed uint8\[2, 3, 3\]"):
        camera.check(np.zeros((3, 2, 3), np.uint8))


def test_a_box_whose_rows_differ_in_length_cannot_be_made() -> None:
    with pytest.raises(SpecError, match="names, units, low and high must be of one length"):
        Box(name="q", names=("a",), units=("m", "m"), low=(0.0,), high=(1.0,))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=2))
def test_clipping_gives_the_nearest_value_that_passes(values: list[float]) -> None:
    clipped = ARM.clip(f32(*values))
    ARM.check(clipped)
    assert np.array_equal(clipped, np.minimum(np.maximum(f32(*values), f32(-0.1, -1)), f32(0.1, 1)))


@pytest.mark.parametrize("length", [2, SHORT, SHORT + 1, 200])
@pytest.mark.parametrize("bound", [1.0, np.inf])
def test_a_value_is_judged_alike_whatever_its_length(length: int, bound: float) -> None:
    spec = box("x", [(f"x{i}", "", -bound, bound) for i in range(length)])
    value = np.zeros(length, np.float32)
    assert spec.has(value)
    spec.check(value)
    for bad in (np.nan, np.inf, -np.inf, *((2.0, -2.0) if bound == 1.0 else ())):
        for i in (0, length - 1):
            value[:] = 0
            value[i] = bad
            assert not spec.has(value)
            with pytest.raises(SpecError, match=rf"x\.x{i} = {bad:.4g}, allowed "):
                spec.check(value)
