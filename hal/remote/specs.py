"""Specs as bytes, rebuilt exactly, infinite bounds included."""

from typing import TypeVar

import msgspec

from hal.robot import RobotSpec
from user_rl.errors import SpecError, WireError
from user_rl.specs import Box, Image

S = TypeVar("S", RobotSpec, Box, Image)


def encode_spec(spec: RobotSpec | Box | Image) -> bytes:
    """`spec` for `decode_spec`."""
    return msgspec.msgpack.encode(spec)


def decode_spec(data: bytes, cls: type[S]) -> S:
    """The spec in `data`; raises WireError for anything but one of `cls`."""
    try:
        return msgspec.msgpack.decode(data, type=cls)
    except (msgspec.MsgspecError, UnicodeDecodeError, SpecError) as error:
        raise WireError(f"{len(data)} bytes are no {cls.__name__}: {error}; bring both sides to one version") from error
