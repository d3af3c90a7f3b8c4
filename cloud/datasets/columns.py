"""Which column of a LeRobot dataset holds which field of a row, and the exact way there and back.

LeRobot's names stand where it has one. What a learner may want beside them is `complementary_info.*` (numbers only: its
replay buffer takes these); what only a round trip needs is `user_rl.*`. `action.proposed` and `action.sent` go under
`complementary_info.`, because LeRobot takes every feature whose name begins with `action` for something to predict.

Integers of up to 64 bits are int64 columns with the same bits; text is percent-encoded, so that any bytes come back.
"""

import io
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np

from cloud.datasets.libraries import library
from user_rl.errors import StorageCorrupt
from user_rl.rows import Field, Schema
from user_rl.specs import Array, Box, Image

COMPLEMENTARY, OURS = "complementary_info.", "user_rl."
BOOLS = {"is_intervention", "next.done", "next.truncated", "next.success"}
COMPANIONS = {"is_intervention", "source", "version", "action.proposed", "action.sent"}
READABLE = " !#$&'()*+,-./:;<=>?@[]^_`{|}~"  # left as they are in text
Feature = dict[str, Any]


def column_of(field: str) -> str:
    """The column of a row's field."""
    if field in COMPANIONS:
        return COMPLEMENTARY + field
    kept = field.startswith(("observation.", "next.")) or field == "action"
    return field if kept else OURS + field


def feature_of(schema: Schema, field: Field) -> Feature:
    """How `meta/info.json` describes the column of a field that is not a picture."""
    spec = schema.action if field.name.startswith("action") else schema.observation.get(field.name)
    names = list(spec.names) if isinstance(spec, Box) else None
    return {"dtype": _type_of(field), "shape": [_width(field)], "names": names}


def picture_feature(spec: Image, kind: str) -> Feature:
    """How `meta/info.json` describes a camera; `kind` is image or video."""
    return {"dtype": kind, "shape": list(spec.shape), "names": ["height", "width", "channels"]}


def plain_fields(schema: Schema) -> list[Field]:
    """The fields of a row that are not pictures, in order."""
    return [field for field in schema.fields if not isinstance(schema.observation.get(field.name), Image)]


def cameras(schema: Schema) -> dict[str, Image]:
    """The pictures among the observations."""
    return {name: spec for name, spec in schema.observation.items() if isinstance(spec, Image)}


def column_from_field(field: Field, values: Array) -> Any:  # noqa: ANN401  # a pyarrow array
    """The column of `values` [T, ...], one field of T rows."""
    pa = library("pyarrow")
    kind = _type_of(field)
    if kind == "string":
        return pa.array([_text(value) for value in values], pa.string())
    if field.name in BOOLS:
        return pa.array(values.astype(bool))
    if kind == "int64":
        return pa.array(values.astype(np.uint64).view(np.int64))
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return flat if _width(field) == 1 else pa.FixedSizeListArray.from_arrays(flat, _width(field))


def field_from_column(field: Field, column: Any) -> Array:  # noqa: ANN401
    """The values of a field, as `column_from_field` was given them; raises StorageCorrupt for another form."""
    kind, dtype = _type_of(field), np.dtype(field.dtype)
    try:
        if kind == "string":
            return np.array([_bytes(field, text) for text in column.to_pylist()], dtype).reshape(-1, *field.shape)
        if column.null_count:
            raise ValueError(f"{column.null_count} values are missing")
        values = vector_column(column)
        if kind == "int64":
            values = values.astype(np.int64).view(np.uint64)
        return values.astype(dtype).reshape(len(column), *field.shape)
    except (ValueError, TypeError) as error:
        raise StorageCorrupt(f"column {column_of(field.name)}: {error}; export this dataset again") from error


def vector_column(column: Any) -> Array:  # noqa: ANN401
    """A numeric column, plain or of lists, as an array [T, ...]; raises ValueError where lists differ in length."""
    pa = library("pyarrow")
    kind = column.type
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        raise ValueError(f"its type is {column.type}, allowed numbers")
    flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if kind == column.type:
        return np.asarray(flat.to_numpy(zero_copy_only=False))
    while not flat.type.equals(kind):
        flat = flat.flatten()
    values = np.asarray(flat.to_numpy(zero_copy_only=False))
    if column.null_count or flat.null_count or (len(column) and len(values) % len(column)):
        raise ValueError("its lists are not of one length")
    _check_even(column)
    return values.reshape(len(column), -1)


def _check_even(column: Any) -> None:  # noqa: ANN401
    compute = library("pyarrow.compute")
    if len(column) and len(compute.unique(compute.list_value_length(column))) != 1:
        raise ValueError("its lists are not of one length")


def png_from_picture(picture: Array) -> bytes:
    """A picture [H, W, C] as PNG, lossless."""
    form = library("PIL.Image").fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    into = io.BytesIO()
    form.save(into, format="PNG", compress_level=1)
    return into.getvalue()


def picture_from_bytes(data: bytes, what: str) -> Array:
    """The picture [H, W, C] in a PNG or JPEG; raises StorageCorrupt naming `what`."""
    try:
        with library("PIL.Image").open(io.BytesIO(data)) as found:
            pixels = np.asarray(found)
    except (OSError, ValueError, SyntaxError) as error:
        raise StorageCorrupt(
            f"{what}: its picture of {len(data)} bytes cannot be read; copy the dataset again"
        ) from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def pictures_column(pictures: Array) -> Any:  # noqa: ANN401
    """A column of PNGs as Hugging Face's image feature stores them."""
    pa = library("pyarrow")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": png_from_picture(p), "path": None} for p in pictures], kind)


def _type_of(field: Field) -> str:
    dtype = np.dtype(field.dtype)
    if field.name in BOOLS:
        return "bool"
    if dtype.kind == "S" or field.name == "version_hash":
        return "string"
    return "int64" if dtype.kind == "u" else str(dtype.name)


def _width(field: Field) -> int:
    return 1 if field.name == "version_hash" else int(np.prod(field.shape, dtype=int))


def _text(value: Any) -> str:  # noqa: ANN401
    return value.tobytes().hex() if isinstance(value, np.ndarray) else quote_from_bytes(value, safe=READABLE)


def _bytes(field: Field, text: str) -> Any:  # noqa: ANN401
    if field.name == "version_hash":
        return np.frombuffer(bytes.fromhex(text), np.uint8)
    return unquote_to_bytes(text)
