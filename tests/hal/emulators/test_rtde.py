import struct

import pytest

from hal.emulators.rtde import Kind, Value, input_recipe, output_recipe, package, packages


def test_a_recipe_packs_its_fields_in_order_big_endian() -> None:
    recipe = output_recipe(1, ["timestamp", "robot_mode", "output_int_register_3"])
    data = recipe.pack({"robot_mode": 7, "timestamp": 1.5, "output_int_register_3": -2})
    assert data == struct.pack(">HBBdii", 20, ord("U"), 1, 1.5, 7, -2)
    assert recipe.reply == b"\x01DOUBLE,INT32,INT32"


def test_a_vector_is_six_numbers_and_an_unwritten_register_is_zero() -> None:
    recipe = output_recipe(1, ["actual_q", "output_double_register_47"])
    values = struct.unpack(">7d", recipe.pack({"actual_q": (1, 2, 3, 4, 5, 6)})[4:])
    assert values == (1, 2, 3, 4, 5, 6, 0)


def test_what_one_side_packs_the_other_unpacks() -> None:
    recipe = input_recipe(3, ["input_int_register_0", "external_force_torque", "input_double_register_1"])
    values: dict[str, Value] = {
        "input_int_register_0": 11,
        "external_force_torque": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
        "input_double_register_1": 0.25,
    }
    assert recipe.unpack(recipe.pack(values)[4:]) == values
    with pytest.raises(struct.error):
        recipe.unpack(recipe.pack(values)[4:-1])


@pytest.mark.parametrize(
    "name", ["actual_x", "output_int_register_48", "input_int_register_0", "output_bit_register_1"]
)
def test_a_field_that_the_controller_does_not_send_is_named_so(name: str) -> None:
    recipe = output_recipe(1, ["timestamp", name])
    assert not recipe.is_known
    assert recipe.reply == b"\x00DOUBLE,NOT_FOUND"


def test_whole_packages_are_taken_and_the_rest_waits() -> None:
    buffer = bytearray(package(Kind.START) + package(Kind.DATA, b"\x01abc") + b"\x00\x09U\x01")
    assert packages(buffer) == [(Kind.START, b""), (Kind.DATA, b"\x01abc")]
    assert buffer == b"\x00\x09U\x01"
    assert packages(buffer) == []


def test_a_size_below_the_headers_own_is_refused() -> None:
    with pytest.raises(ValueError, match="an RTDE package of 2 bytes, allowed 3 or more; close the connection"):
        packages(bytearray(b"\x00\x02U"))
