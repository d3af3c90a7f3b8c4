"""Codecs: how one field of a row is stored, chosen in the log's configuration; a codec works on one value at a time.

`codecs: {observation.images.*: jpeg:90}` maps a field of the observation, or a pattern, to raw, lz4, zstd[:level],
jpeg[:quality], png or blank. All but jpeg give back the same bytes; jpeg is 4:2:0, and its decoding takes the fast
paths of libjpeg-turbo, which is the same bytes every time. jpeg and png store uint8 pictures [H, W, 1 or 3]; blank
needs no library, and stores nothing of a value that is all zeros. The other libraries (`user-rl[codecs]`) are imported
when a codec is made. All of them let other threads run while they work.

A blob may come from a peer: `check` looks at its header alone, and `decode` makes no more than the field's bytes of it.
"""

import importlib
import io
import struct
import threading
import zlib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from user_rl.errors import ConfigError, SpecError, StorageCorrupt
from user_rl.rows import Field, Schema
from user_rl.specs import Array

ALLOWED = "raw, lz4, zstd[:1..19], jpeg[:1..100], png, blank"
_LEVELS = {"zstd": (1, 19, 3), "jpeg": (1, 100, 90)}  # lowest, highest, default
_PNG_HEAD = struct.Struct(">8sI4sIIBBBBB")  # signature; IHDR: length, name, width, height, depth, colours, 3 methods
_BROKEN = (ValueError, RuntimeError, OSError, SyntaxError, EOFError, struct.error, zlib.error)


class Codec(Protocol):
    """Encodes one value, given as its bytes [B] uint8, and decodes it into `out`, [B] uint8, contiguous."""

    lossy: bool

    def encode(self, value: Array) -> bytes: ...

    def check(self, blob: memoryview, size: int) -> None:
        """Raises one of the library's errors for a blob whose header is not that of a value of `size` bytes."""

    def decode(self, blob: memoryview, out: Array) -> None: ...


class Blank:
    """See Codec. No bytes for zeros, and the bytes themselves for all else: pictures that were not recorded."""

    lossy = False

    def encode(self, value: Array) -> bytes:
        return value.tobytes() if value.any() else b""

    def check(self, blob: memoryview, size: int) -> None:
        if len(blob) not in (0, size):
            raise ValueError(f"it has {len(blob)} bytes, expected 0 or {size}")

    def decode(self, blob: memoryview, out: Array) -> None:
        self.check(blob, len(out))
        out[:] = np.frombuffer(blob, np.uint8) if len(blob) else 0


class Lz4:
    """See Codec. LZ4's block format, the fastest to decode."""

    lossy = False

    def __init__(self) -> None:
        self._block = _library("lz4.block", "lz4")

    def encode(self, value: Array) -> bytes:
        blob: bytes = self._block.compress(value, store_size=False)
        return blob

    def check(self, blob: memoryview, size: int) -> None:
        """The format has no header: decoding writes `size` bytes at most."""

    def decode(self, blob: memoryview, out: Array) -> None:
        try:
            _copy(self._block.decompress(blob, uncompressed_size=len(out)), out)
        except self._block.LZ4BlockError as error:
            raise ValueError(str(error)) from error


class Zstd:
    """See Codec. One context for each thread: they may not be shared."""

    lossy = False

    def __init__(self, level: int) -> None:
        self._zstd, self._level, self._own = _library("zstandard", "zstd"), level, threading.local()

    def encode(self, value: Array) -> bytes:
        blob: bytes = self._context("encoder", lambda: self._zstd.ZstdCompressor(level=self._level)).compress(value)
        return blob

    def check(self, blob: memoryview, size: int) -> None:
        try:
            found = self._zstd.frame_content_size(blob)
        except self._zstd.ZstdError as error:
            raise ValueError(str(error)) from error
        if found != size:  # the library makes as many bytes as the frame says
            raise ValueError(f"it has {found} bytes, expected {size}")

    def decode(self, blob: memoryview, out: Array) -> None:
        self.check(blob, len(out))
        decoder = self._context("decoder", self._zstd.ZstdDecompressor)
        try:
            _copy(decoder.decompress(blob, max_output_size=len(out)), out)
        except self._zstd.ZstdError as error:
            raise ValueError(str(error)) from error

    def _context(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401  # the library's own class
        if not hasattr(self._own, name):
            setattr(self._own, name, make())
        return getattr(self._own, name)


class Jpeg:
    """See Codec. `shape` is [H, W, 1 or 3]."""

    lossy = True

    def __init__(self, quality: int, shape: tuple[int, ...]) -> None:
        self._library, self._quality, self._shape = _library("simplejpeg", "jpeg"), quality, shape
        self._colors, self._sampling = ("GRAY", "Gray") if shape[2] == 1 else ("RGB", "420")

    def encode(self, value: Array) -> bytes:
        blob: bytes = self._library.encode_jpeg(
            value.reshape(self._shape), quality=self._quality, colorspace=self._colors, colorsubsampling=self._sampling
        )
        return blob

    def check(self, blob: memoryview, size: int) -> None:
        height, width, *_ = self._library.decode_jpeg_header(blob)
        if (height, width) != self._shape[:2]:
            raise ValueError(f"a picture {[height, width, self._shape[2]]}, expected {list(self._shape)}")

    def decode(self, blob: memoryview, out: Array) -> None:
        self.check(blob, len(out))
        picture = self._library.decode_jpeg(blob, self._colors, fastdct=True, fastupsample=True, buffer=out)
        if picture.shape != self._shape:
            raise ValueError(f"a picture {list(picture.shape)}, expected {list(self._shape)}")


class Png:
    """See Codec. `shape` is [H, W, 1 or 3]."""

    lossy = False

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._library, self._shape = _library("PIL.Image", "png"), shape

    def encode(self, value: Array) -> bytes:
        height, width, channels = self._shape
        picture = value.reshape(self._shape if channels == 3 else (height, width))
        file = io.BytesIO()
        self._library.fromarray(picture).save(file, "png", compress_level=1)
        return file.getvalue()

    def check(self, blob: memoryview, size: int) -> None:
        height, width, channels = self._shape
        expected = (b"\x89PNG\r\n\x1a\n", 13, b"IHDR", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
        if _PNG_HEAD.unpack_from(blob) != expected:
            raise ValueError(f"no png of 8 bits, {list(self._shape)}, not interlaced")

    def decode(self, blob: memoryview, out: Array) -> None:
        self.check(blob, len(out))
        with self._library.open(io.BytesIO(blob), formats=("PNG",)) as picture:
            _copy(picture.tobytes(), out)


def check_codecs(codecs: Mapping[str, str]) -> None:
    """Raises ConfigError for a text that names no codec."""
    for key, text in codecs.items():
        _parsed(f"log.codecs.{key}", text)


def codecs_of(schema: Schema, codecs: Mapping[str, str], path: str = "log.codecs") -> dict[str, str]:
    """The codec of each coded field of a schema, in the schema's order; raises ConfigError for what cannot be.

    A field's own name goes before patterns, and an earlier pattern before a later one.
    """
    fields = {field.name: field for field in schema.fields if field.name in schema.observation}
    for key in codecs:
        if not any(fnmatchcase(name, key) for name in fields):
            near = get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(fields)}, and patterns of them"
            raise ConfigError(f"{path}.{key}: no field of the observation is called so; {hint}")
    chosen: dict[str, str] = {}
    for name, field in fields.items():
        key = name if name in codecs else next((k for k in codecs if fnmatchcase(name, k)), "")
        if codecs.get(key, "raw") != "raw":
            chosen[name] = codecs[key]
            _make(f"{path}.{key}", codecs[key], field)
    return chosen


@lru_cache(maxsize=256)
def make_codec(name: str, text: str, dtype: str, shape: tuple[int, ...]) -> Codec:
    """The codec `text` for a field; raises ConfigError when it cannot store it or its library is not installed."""
    return _make(f"log.codecs.{name}", text, Field(name, dtype, shape))


def decoded(name: str, codec: Codec, blob: memoryview, out: Array) -> None:
    """`codec.decode`; raises StorageCorrupt for bytes that it cannot read."""
    try:
        codec.decode(blob, out)
    except _BROKEN as error:
        raise StorageCorrupt(
            f"{name}: {type(codec).__name__.lower()} cannot decode its {len(blob)} bytes: {error}; "
            "restore this segment from a backup"
        ) from error


def check_blob(name: str, codec: Codec, blob: memoryview, size: int) -> None:
    """Raises SpecError for a blob that cannot be a value of `size` bytes, as far as its length and header tell."""
    most = size + size // 8 + 1024
    try:
        if len(blob) > most:
            raise ValueError(f"allowed {most}")
        codec.check(blob, size)
    except _BROKEN as error:
        text = f"{name}: {len(blob)} bytes are no {type(codec).__name__.lower()} of {size}: {error}; drop it"
        raise SpecError(text) from error


def _copy(data: bytes, out: Array) -> None:
    if len(data) != len(out):
        raise ValueError(f"it has {len(data)} bytes, expected {len(out)}")
    out[:] = np.frombuffer(data, np.uint8)


def _make(path: str, text: str, field: Field) -> Codec:
    name, level = _parsed(path, text)
    shape = tuple(field.shape)
    if name in ("jpeg", "png"):
        if np.dtype(field.dtype) != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3):
            raise ConfigError(
                f"{path} = {text}: {field.name} is {np.dtype(field.dtype)}{list(shape)}, {name} stores "
                "uint8[H, W, 1 or 3]; choose raw, lz4 or zstd"
            )
        return Png(shape) if name == "png" else Jpeg(level, shape)
    if name == "blank":
        return Blank()
    return Lz4() if name == "lz4" else Zstd(level)


def _parsed(path: str, text: str) -> tuple[str, int]:
    """(name, level) of a codec's text."""
    name, colon, level = str(text).partition(":")
    low, high, default = _LEVELS.get(name, (0, 0, 0))
    known = name in _LEVELS or (name in ("raw", "lz4", "png", "blank") and not colon)
    if not known or (colon and not (level.isascii() and level.isdigit() and low <= int(level) <= high)):
        raise ConfigError(f"{path} = {text!r}, allowed {ALLOWED}; choose one of these")
    return name, int(level) if colon else default


def _library(module: str, codec: str) -> Any:  # noqa: ANN401  # a module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"codec {codec}: the package {module.partition('.')[0]} is not installed; install user-rl[codecs]"
        ) from error
