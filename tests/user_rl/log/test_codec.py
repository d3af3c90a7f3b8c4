"""Codecs: what each gives back, which field may have which, and what is said when it may not."""

import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.user_rl.log.filmed_rows import DEPTH, FRONT, SCHEMA, STATE, WRIST, after_jpeg, filmed
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.log import LogConfig
from user_rl.log.codec import codecs_of, decoded, make_codec
from user_rl.log.coded import Coded, packed
from user_rl.specs import Array

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
pictures = shapes.flatmap(lambda shape: arrays(np.uint8, shape))


@pytest.mark.parametrize("text", ["lz4", "zstd", "zstd:1", "zstd:19", "png", "blank"])
@given(picture=pictures)
@settings(max_examples=15, deadline=None)
def test_a_lossless_codec_gives_back_the_same_bytes(text: str, picture: Array) -> None:
    codec = make_codec("picture", text, "|u1", picture.shape)
    out = np.zeros(picture.size, np.uint8)
    codec.decode(memoryview(codec.encode(picture.reshape(-1))), out)
    assert (out == picture.reshape(-1)).all()
    assert not codec.lossy


@given(picture=pictures, quality=st.integers(1, 100))
@settings(max_examples=15, deadline=None)
def test_jpeg_gives_back_what_the_library_does(picture: Array, quality: int) -> None:
    codec = make_codec("picture", f"jpeg:{quality}", "|u1", picture.shape)
    out = np.zeros(picture.size, np.uint8)
    codec.decode(memoryview(codec.encode(picture.reshape(-1))), out)
    assert (out.reshape(picture.shape) == after_jpeg(picture, quality)).all()
    assert codec.lossy


def test_jpeg_is_of_quality_90_unless_told_otherwise() -> None:
    picture = filmed(0, 1)[FRONT][0]
    codecs = [make_codec(FRONT, text, "|u1", picture.shape) for text in ("jpeg", "jpeg:90", "jpeg:89")]
    default, same, other = (codec.encode(picture.reshape(-1)) for codec in codecs)
    assert default == same != other


def test_a_field_has_the_codec_of_its_own_name_before_that_of_a_pattern() -> None:
    chosen = codecs_of(SCHEMA, {"observation.images.*": "jpeg:80", WRIST: "png", "observation.*": "lz4"})
    assert list(chosen.items()) == [(DEPTH, "jpeg:80"), (FRONT, "jpeg:80"), (WRIST, "png"), (STATE, "lz4")]
    assert codecs_of(SCHEMA, {"observation.images.*": "png", WRIST: "raw", DEPTH: "raw"}) == {FRONT: "png"}
    assert codecs_of(SCHEMA, {}) == {}


@pytest.mark.parametrize(
    "text", ["jpg", "jpeg:0", "jpeg:101", "jpeg:", "jpeg:-1", "zstd:20", "lz4:1", "png:9", "", "raw:1"]
)
def test_a_codec_that_does_not_exist_is_refused_with_those_that_do(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        LogConfig(codecs={FRONT: text})
    allowed = "raw, lz4, zstd[:1..19], jpeg[:1..100], png, blank"
    assert str(error.value) == f"log.codecs.{FRONT} = {text!r}, allowed {allowed}; choose one of these"


@pytest.mark.parametrize("text", ["jpeg", "png"])
def test_a_picture_codec_stores_pictures_only(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        codecs_of(SCHEMA, {"observation.*": text})
    assert str(error.value) == (
        f"log.codecs.observation.* = {text}: {STATE} is float32[2], {text} stores uint8[H, W, 1 or 3]; "
        "choose raw, lz4 or zstd"
    )


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("observation.images.fromt", f"did you mean {FRONT}?"),
        ("action", f"allowed are {DEPTH}, {FRONT}, {WRIST}, {STATE}, and patterns of them"),
        ("kamera*", f"allowed are {DEPTH}, {FRONT}, {WRIST}, {STATE}, and patterns of them"),
    ],
)
def test_a_key_that_is_no_field_of_the_observation_is_refused(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as error:
        codecs_of(SCHEMA, {key: "lz4"})
    assert str(error.value) == f"log.codecs.{key}: no field of the observation is called so; {hint}"


def test_a_missing_library_names_the_extra_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with pytest.raises(ConfigError) as error:
        codecs_of(SCHEMA, {FRONT: "jpeg"})
    assert str(error.value) == "codec jpeg: the package simplejpeg is not installed; install user-rl[codecs]"


@pytest.mark.parametrize("text", ["lz4", "zstd", "jpeg", "png", "blank"])
def test_bytes_that_cannot_be_decoded_are_said_to_be_corrupt(text: str) -> None:
    codec, blob = make_codec(FRONT, text, "|u1", (32, 40, 3)), memoryview(zlib.compress(b"something else"))
    with pytest.raises(StorageCorrupt, match=rf"^{FRONT}: {text} cannot decode its 22 bytes: .*; restore this segment"):
        decoded(FRONT, codec, blob, np.zeros(32 * 40 * 3, np.uint8))


def test_a_picture_of_another_size_is_said_to_be_corrupt() -> None:
    blob = make_codec(FRONT, "jpeg", "|u1", (16, 20, 3)).encode(np.zeros(960, np.uint8))
    with pytest.raises(StorageCorrupt, match=r"a picture \[16, 20, 3\], expected \[32, 40, 3\]"):
        decoded(FRONT, make_codec(FRONT, "jpeg", "|u1", (32, 40, 3)), memoryview(blob), np.zeros(3840, np.uint8))


@pytest.mark.parametrize("text", ["lz4", "zstd", "blank"])
def test_a_value_of_another_length_is_said_to_be_corrupt(text: str) -> None:
    blob = make_codec(FRONT, text, "|u1", (1, 1, 1)).encode(np.ones(1, np.uint8))
    with pytest.raises(StorageCorrupt, match=rf"{text} cannot decode .*it has 1 bytes, expected (0 or )?3840"):
        decoded(FRONT, make_codec(FRONT, text, "|u1", (32, 40, 3)), memoryview(blob), np.zeros(3840, np.uint8))


def test_a_chunk_is_coded_only_if_that_saves_bytes() -> None:
    noise = filmed(3, 1)
    assert packed(noise, {FRONT: "png", WRIST: "lz4"}) is None
    assert packed(filmed(0, 1), {FRONT: "png", WRIST: "lz4"}) is not None


def test_fields_that_are_not_wanted_are_not_decoded() -> None:
    records, out = filmed(0, 4), SCHEMA.new(4)
    stored = packed(records, {FRONT: "jpeg", DEPTH: "zstd"})
    assert stored is not None
    Coded(memoryview(stored), 4, SCHEMA.dtype).fetch(slice(None), out, frozenset({FRONT}))
    assert not out[FRONT].any()
    assert (out[DEPTH] == records[DEPTH]).all()


def test_the_plain_part_of_a_coded_chunk_is_looked_at_without_decoding() -> None:
    records = filmed(0, 9)
    stored = packed(records, {FRONT: "jpeg", DEPTH: "zstd"})
    assert stored is not None
    plain = Coded(memoryview(stored), 9, SCHEMA.dtype).plain
    assert plain.dtype.names == tuple(name for name in SCHEMA.dtype.names or () if name not in (FRONT, DEPTH))
    assert all((plain[name] == records[name]).all() for name in plain.dtype.names)
