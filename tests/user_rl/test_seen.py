"""An observation crosses as it is, pictures nearly so, and nothing that is not one is taken for it."""

import numpy as np
import pytest

from user_rl.errors import ConfigError, WireError
from user_rl.seen import Fields, check_pictures, pack, unpack
from user_rl.specs import Array, Image, Spec, box

SPECS: dict[str, Spec] = {
    "observation.images.wrist": Image(name="wrist", height=40, width=48),
    "observation.state": box("state", [("x", "m", -1, 1), ("y", "m", -1, 1)]),
}


def observation() -> dict[str, Array]:
    ramp = np.linspace(0, 255, 40 * 48 * 3).reshape(40, 48, 3).astype(np.uint8)
    return {"observation.state": np.array([0.5, -0.25], np.float32), "observation.images.wrist": ramp}


def crossed(pictures: str) -> dict[str, Array]:
    fields, parts = pack(observation(), pictures)
    return unpack(fields, memoryview(b"".join(parts)), SPECS)


def test_raw_pictures_and_vectors_cross_bit_by_bit() -> None:
    for name, value in crossed("raw").items():
        assert np.array_equal(value, observation()[name])
        assert value.dtype == observation()[name].dtype


def test_jpeg_pictures_are_smaller_and_nearly_the_same() -> None:
    fields, parts = pack(observation(), "jpeg:90")
    found = unpack(fields, memoryview(b"".join(parts)), SPECS)
    assert sum(map(len, parts)) < 40 * 48 * 3 / 2
    difference = found["observation.images.wrist"].astype(int) - observation()["observation.images.wrist"]
    assert abs(difference).mean() < 3
    assert np.array_equal(found["observation.state"], observation()["observation.state"])


def broken(which: str) -> tuple[Fields, bytes]:
    """A packed observation with one thing wrong."""
    fields, parts = pack(observation(), "jpeg:90")
    fields, parts = fields, list(parts)
    (state, raw, size), (wrist, jpeg, length) = fields
    nan = np.array([np.nan, 0], np.float32).tobytes()
    return {
        "a field less": (fields[:1], parts[0]),
        "a field twice": ((fields[0], fields[0], fields[1]), b"".join([parts[0], *parts])),
        "another name": (((state, raw, size), ("observation.images.other", jpeg, length)), b"".join(parts)),
        "bytes missing": (fields, b"".join(parts)[:-1]),
        "bytes too many": (fields, b"".join(parts) + b"x"),
        "a state of another size": (((state, raw, 4), (wrist, jpeg, length)), parts[0][:4] + parts[1]),
        "a state that is no number": (fields, nan + parts[1]),
        "a coded state": (((state, "lz4", size), (wrist, jpeg, length)), b"".join(parts)),
        "another codec": (((state, raw, size), (wrist, "png", length)), b"".join(parts)),
        "a codec that is none": (((state, raw, size), (wrist, "jpeg:900", length)), b"".join(parts)),
        "no picture": (((state, raw, size), (wrist, jpeg, 9)), parts[0] + b"no jpeg.."),
        "a larger picture": larger(parts[0]),
    }[which]


def larger(state: bytes) -> tuple[Fields, bytes]:
    fields, [part] = pack({"observation.images.wrist": np.zeros((80, 48, 3), np.uint8)}, "jpeg:90")
    return (("observation.state", "raw", len(state)), fields[0]), state + part


@pytest.mark.parametrize(
    "which",
    [
        "a field less", "a field twice", "another name", "bytes missing", "bytes too many", "a state of another size",
        "a state that is no number", "a coded state", "another codec", "a codec that is none", "no picture",
        "a larger picture",
    ],
)  # fmt: skip
def test_what_is_no_observation_of_these_specs_is_refused(which: str) -> None:
    fields, payload = broken(which)
    with pytest.raises(WireError, match=r"drop it|cannot be decoded"):
        unpack(fields, memoryview(payload), SPECS)


def test_pictures_that_cannot_be_encoded_are_refused_at_the_start() -> None:
    check_pictures(SPECS, "jpeg:90")
    check_pictures({"depth": Image(name="depth", height=4, width=4, channels=2)}, "raw")
    with pytest.raises(ConfigError, match="jpeg stores uint8"):
        check_pictures({"depth": Image(name="depth", height=4, width=4, channels=2)}, "jpeg:90")
