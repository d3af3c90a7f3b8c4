"""Codec: small msgspec headers with raw array frames behind them, for one closed set of messages.

A message is a list of frames: the header (one byte of wire format, then a tagged msgspec array) and the payloads that
its type announces. `decode` trusts nothing: whatever is not exactly one of the set's messages raises WireError, and no
payload is copied or looked into. Digests, order, identity and schema are the receiver's to hold against what it knows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from user_rl.errors import WireError

FORMAT: Final = 1  # the number of this wire format, the first byte of every header

Buffer = bytes | bytearray | memoryview
M = TypeVar("M")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What `decode` accepts at most."""

    frames: int = 2  # with the header
    header_bytes: int = 2**19
    payload_bytes: int = 2**24


class Codec(Generic[M]):
    """Encodes and decodes the messages of one union of tagged structs; those `with_payload` have one payload each."""

    def __init__(self, union: Any, with_payload: tuple[type, ...]) -> None:  # noqa: ANN401  # a union is no type
        self._with_payload = with_payload
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(union)

    def encode(self, message: M, *payloads: bytes | memoryview) -> list[bytes | memoryview]:
        """The frames of `message`; payloads are passed on without a copy."""
        self._check_payloads(message, len(payloads))
        return [bytes((FORMAT,)) + self._encoder.encode(message), *payloads]

    def decode(self, frames: Sequence[Buffer], limits: Limits | None = None) -> tuple[M, list[memoryview]]:
        """The message in `frames` and views of its payloads; raises WireError for anything else."""
        _check_sizes(frames, limits or Limits())
        header = memoryview(frames[0])
        if header[0] != FORMAT:
            raise WireError(f"wire format {header[0]}, allowed {FORMAT}; bring both sides to one version")
        try:
            message = self._decoder.decode(header[1:])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise WireError(f"a header of {len(header)} bytes is no message: {error}; drop it") from error
        self._check_payloads(message, len(frames) - 1)
        return message, [memoryview(frame) for frame in frames[1:]]

    def _check_payloads(self, message: M, count: int) -> None:
        wanted = int(isinstance(message, self._with_payload))
        if count != wanted:
            raise WireError(f"{type(message).__name__} with {count} payloads, allowed {wanted}; drop it")


def _check_sizes(frames: Sequence[Buffer], limits: Limits) -> None:
    if not 1 <= len(frames) <= limits.frames:
        raise WireError(f"a message of {len(frames)} frames, allowed 1 to {limits.frames}; drop it")
    if not 1 <= len(frames[0]) <= limits.header_bytes:
        raise WireError(f"a header of {len(frames[0])} bytes, allowed 1 to {limits.header_bytes}; drop it")
    for frame in frames[1:]:
        if len(frame) > limits.payload_bytes:
            raise WireError(f"a payload of {len(frame)} bytes, allowed {limits.payload_bytes}; send it in parts")
