"""RTDE on the wire: packages, the fields that a controller offers, and how a recipe packs them.

Source: Universal Robots, Real-Time Data Exchange guide, protocol version 2: a header of size (uint16, itself included)
and kind (one letter), everything big-endian; a recipe is a list of field names that both sides then send as one struct.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

Value = float | tuple[float, ...]

HEADER = struct.Struct(">HB")
PORT = 30004
VERSION = 2
NOT_FOUND = "NOT_FOUND"  # the type of a field that the controller does not have


class Kind(IntEnum):
    """A package's kind: the letter in its header."""

    PROTOCOL_VERSION = ord("V")
    CONTROLLER_VERSION = ord("v")
    TEXT = ord("M")
    DATA = ord("U")
    SETUP_OUTPUTS = ord("O")
    SETUP_INPUTS = ord("I")
    START = ord("S")
    PAUSE = ord("P")


_FORMATS = {"DOUBLE": "d", "VECTOR6D": "6d", "INT32": "i", "UINT32": "I"}
_OUTPUTS = {
    "timestamp": "DOUBLE", "target_q": "VECTOR6D", "actual_q": "VECTOR6D", "actual_qd": "VECTOR6D",
    "robot_mode": "INT32", "safety_mode": "INT32", "runtime_state": "UINT32",
    "robot_status_bits": "UINT32", "safety_status_bits": "UINT32",
}  # fmt: skip
_INPUTS = {"external_force_torque": "VECTOR6D"}
_REGISTER = re.compile(r"(?:in|out)put_(int|double)_register_(\d+)")
_REGISTERS = 48


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Named fields in the order in which they travel."""

    number: int
    names: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def is_known(self) -> bool:
        return NOT_FOUND not in self.types

    @property
    def reply(self) -> bytes:
        """What the controller answers to the set-up: the recipe's number, 0 for one that it cannot serve, and types."""
        return bytes([self.number if self.is_known else 0]) + ",".join(self.types).encode()

    @property
    def layout(self) -> struct.Struct:
        return struct.Struct(">" + "".join(_FORMATS[kind] for kind in self.types))

    def pack(self, values: Mapping[str, Value]) -> bytes:
        """A data package of `values`; a register that nobody has written is 0."""
        flat: list[float] = []
        for name, kind in zip(self.names, self.types, strict=True):
            value = values.get(name, 0)
            numbers = value if isinstance(value, tuple) else (value,)
            flat += numbers if kind in ("DOUBLE", "VECTOR6D") else [int(x) for x in numbers]
        return package(Kind.DATA, bytes([self.number]) + self.layout.pack(*flat))

    def unpack(self, payload: bytes) -> dict[str, Value]:
        """What a data package of this recipe says; raises struct.error for another length."""
        flat = self.layout.unpack(payload)
        values: dict[str, Value] = {}
        for name, kind in zip(self.names, self.types, strict=True):
            taken = 6 if kind == "VECTOR6D" else 1
            values[name], flat = flat[:taken] if taken > 1 else flat[0], flat[taken:]
        return values


def output_recipe(number: int, names: Sequence[str]) -> Recipe:
    """Fields that the controller sends."""
    return _recipe(number, names, _OUTPUTS, "output")


def input_recipe(number: int, names: Sequence[str]) -> Recipe:
    """Fields that the controller takes."""
    return _recipe(number, names, _INPUTS, "input")


def package(kind: Kind, payload: bytes = b"") -> bytes:
    """One package with its header."""
    return HEADER.pack(HEADER.size + len(payload), kind) + payload


def packages(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Takes the whole packages out of `buffer`; raises ValueError for a size below the header's own."""
    found = []
    while len(buffer) >= HEADER.size:
        size, kind = HEADER.unpack_from(buffer)
        if size < HEADER.size:
            raise ValueError(f"an RTDE package of {size} bytes, allowed {HEADER.size} or more; close the connection")
        if len(buffer) < size:
            break
        found.append((kind, bytes(buffer[HEADER.size : size])))
        del buffer[:size]
    return found


def _recipe(number: int, names: Sequence[str], known: Mapping[str, str], side: str) -> Recipe:
    return Recipe(number=number, names=tuple(names), types=tuple(_type(name, known, side) for name in names))


def _type(name: str, known: Mapping[str, str], side: str) -> str:
    match = _REGISTER.fullmatch(name)
    if match and name.startswith(side) and int(match[2]) < _REGISTERS:
        return "INT32" if match[1] == "int" else "DOUBLE"
    return known.get(name, NOT_FOUND)
