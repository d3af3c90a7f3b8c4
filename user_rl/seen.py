"""Seen: one observation on its way to whoever infers: each value encoded by itself, one after the other.

Pictures travel as JPEG or as they are, vectors always as they are. Whoever unpacks knows the specs, and trusts nothing.
"""

from collections.abc import Mapping

import numpy as np

from user_rl.errors import ConfigError, StorageCorrupt, WireError
from user_rl.log.codec import decoded, make_codec
from user_rl.specs import Array, Image, Spec

Fields = tuple[tuple[str, str, int], ...]  # name, codec, bytes
RAW, JPEG = "raw", "jpeg"


def pack(values: Mapping[str, Array], pictures: str) -> tuple[Fields, list[bytes]]:
    """What `Infer.fields` says, and the payload's parts. `pictures`: the codec of uint8 [H, W, C], such as jpeg:90."""
    fields, parts = [], []
    for name, value in values.items():
        codec = pictures if value.dtype == np.uint8 and value.ndim == 3 else RAW
        flat = np.ascontiguousarray(value).view(np.uint8).reshape(-1)
        part = flat.tobytes() if codec == RAW else make_codec(name, codec, "|u1", value.shape).encode(flat)
        fields.append((name, codec, len(part)))
        parts.append(part)
    return tuple(fields), parts


def check_pictures(specs: Mapping[str, Spec], pictures: str) -> None:
    """Raises ConfigError when pictures of these specs cannot be encoded so, or its library is not installed."""
    for name, spec in specs.items():
        if isinstance(spec, Image) and pictures != RAW:
            make_codec(name, pictures, "|u1", spec.shape)


def unpack(fields: Fields, payload: memoryview, specs: Mapping[str, Spec]) -> dict[str, Array]:
    """The observation, by name, inside its specs but for bounds; raises WireError for anything else."""
    if sorted(name for name, _, _ in fields) != sorted(specs):
        named = ", ".join(name for name, _, _ in fields)
        raise WireError(f"an observation of {named or 'nothing'}, allowed {', '.join(specs)}; drop it")
    if sum(size for _, _, size in fields) != len(payload):
        raise WireError(f"an observation of {len(payload)} bytes whose fields have others; drop it")
    values, at = {}, 0
    for name, codec, size in fields:
        values[name] = _value(name, codec, payload[at : at + size], specs[name])
        at += size
    return values


def _value(name: str, codec: str, part: memoryview, spec: Spec) -> Array:
    out = np.empty(spec.shape, spec.dtype)
    flat = out.view(np.uint8).reshape(-1)
    if codec == RAW:
        if len(part) != len(flat):
            raise WireError(f"{name} of {len(part)} bytes, allowed {len(flat)}; drop it")
        flat[:] = np.frombuffer(part, np.uint8)
    elif not isinstance(spec, Image) or not codec.startswith(JPEG):
        allowed = f"{RAW}, {JPEG}:1 to {JPEG}:100" if isinstance(spec, Image) else RAW
        raise WireError(f"{name} is coded as {codec[:20]}, allowed {allowed}; drop it")
    else:
        _decode(name, codec, part, flat, spec)
    if out.dtype == np.float32 and not np.isfinite(out).all():
        raise WireError(f"{name} holds a number that is not finite; drop it")
    return out


def _decode(name: str, codec: str, part: memoryview, flat: Array, spec: Image) -> None:
    try:
        decoded(name, make_codec(name, codec, "|u1", spec.shape), part, flat)
    except (ConfigError, StorageCorrupt) as error:
        raise WireError(f"{name} cannot be decoded as {codec[:20]}: {error}") from error
