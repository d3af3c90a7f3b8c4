"""Coded rows that another party made, held against what they may be before they are stored as they are.

Looked at are: the codecs (known ones alone, for fields of the observation that can have them, in one spelling), the
count (what is decoded at once has a bound), whether the parts add up to the last byte, and each picture's length and
header. What a header promises and the rest does not keep is found where the picture is decoded, which costs a
thousand times as much: that chunk is then left out with a line, and nothing else.
"""

from functools import lru_cache
from itertools import pairwise

import msgspec

from user_rl.errors import ConfigError, SchemaMismatch, SpecError, StorageCorrupt, WireError
from user_rl.log.chunk import most_rows
from user_rl.log.codec import check_blob, codecs_of
from user_rl.log.coded import LENGTH, Coded
from user_rl.rows import Schema, schema_from_bytes

MAX_TEXT_BYTES = 4096  # of the codecs


def coded_from_peer(stored: memoryview, count: int, schema: Schema) -> Coded:
    """The parts of `count` coded rows.

    Raises SchemaMismatch for codecs that its rows cannot have here, WireError for anything else that is wrong.
    """
    allowed = most_rows(schema.row_bytes)
    if count > allowed:
        raise WireError(f"{count} coded rows of {schema.row_bytes} bytes, allowed {allowed} at once; send fewer")
    _check_codecs(schema.encoded, _text(stored))
    try:
        part = Coded(stored, count, schema.dtype)
        _check_parts(part, stored)
    except (StorageCorrupt, SpecError, ValueError) as error:
        raise WireError(f"{count} coded rows in {len(stored)} bytes do not add up: {error}") from error
    return part


def _text(stored: memoryview) -> bytes:
    size = LENGTH.unpack_from(stored, len(stored) - LENGTH.size)[0] if len(stored) >= LENGTH.size else 0
    if not 0 < size <= min(MAX_TEXT_BYTES, len(stored) - LENGTH.size):
        raise WireError(f"coded rows that name their codecs in {size} bytes, allowed 1 to {MAX_TEXT_BYTES}; drop them")
    return bytes(stored[len(stored) - LENGTH.size - size : len(stored) - LENGTH.size])


@lru_cache(maxsize=64)
def _check_codecs(encoded: bytes, text: bytes) -> None:
    """Each field by its own name, and the text as we would write it, so that equal texts mean equal codecs."""
    try:
        codecs = msgspec.json.decode(text, type=dict[str, str])
        known = codecs_of(schema_from_bytes(encoded), codecs)
    except (msgspec.MsgspecError, UnicodeDecodeError, ConfigError) as error:
        raise SchemaMismatch(f"coded rows whose codecs cannot be used here: {error}") from error
    if not codecs or msgspec.json.encode(known) != text:
        raise SchemaMismatch(
            f"coded rows whose codecs are spelled {text[:200]!r}, expected {msgspec.json.encode(known)!r}"
        )


def _check_parts(part: Coded, stored: memoryview) -> None:
    size = part.plain.nbytes + len(part.text) + LENGTH.size
    for (name, codec, _, value_bytes), (ends, blobs) in zip(part.layout.coded, part.columns, strict=True):
        size += LENGTH.size * len(part.plain) + len(blobs)
        for start, end in pairwise(ends):
            check_blob(name, codec, blobs[start:end], value_bytes)
    if size != len(stored):
        raise SpecError(f"its parts have {size} bytes")
