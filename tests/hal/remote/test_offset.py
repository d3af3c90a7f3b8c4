"""The two clocks, by hand."""

import math

import msgspec
import numpy as np
import pytest

from hal.remote.offset import KEEP_S, Offset
from hal.remote.specs import decode_spec, encode_spec
from hal.robot import OnSilence, RobotSpec
from user_rl.clock import FakeClock
from user_rl.errors import WireError
from user_rl.specs import Box, Image, box


def exchange(offset: Offset, system: FakeClock, server_ahead_s: float, there_s: float, back_s: float) -> None:
    sent_s = system.now_s()
    system.advance(there_s)
    server_s = system.now_s() + server_ahead_s
    system.advance(back_s)
    offset.learn(server_s, sent_s)


def test_the_quickest_round_trip_gives_the_offset() -> None:
    system = FakeClock(10.0)
    offset = Offset(system)
    exchange(offset, system, 500.0, 0.4, 0.0)
    assert offset.server_s(20.0) == pytest.approx(520.2)  # all of the way was there: off by half of it
    exchange(offset, system, 500.0, 0.01, 0.01)
    assert offset.server_s(20.0) == pytest.approx(520.0)
    exchange(offset, system, 500.0, 0.3, 0.0)
    assert offset.server_s(20.0) == pytest.approx(520.0)


def test_an_old_estimate_gives_way_to_a_slower_one() -> None:
    system = FakeClock(0.0)
    offset = Offset(system)
    exchange(offset, system, 500.0, 0.01, 0.01)
    system.advance(KEEP_S + 1)
    exchange(offset, system, 501.0, 0.1, 0.1)  # the clocks drift
    assert offset.server_s(0.0) == pytest.approx(501.0)


def test_a_stamp_is_as_old_here_as_there_and_never_of_the_future() -> None:
    system, ours = FakeClock(0.0), FakeClock(7000.0)
    offset = Offset(system)
    exchange(offset, system, 500.0, 0.01, 0.01)
    assert offset.stamp_s(system.now_s() + 500.0 - 0.25, ours) == pytest.approx(6999.75)
    assert offset.stamp_s(system.now_s() + 500.0 + 9.0, ours) == 7000.0


def test_specs_cross_exactly() -> None:
    state = box("observation.state", [("a.pos", "rad", -math.inf, math.inf), ("b", "", -0.1, 1e-9)])
    spec = RobotSpec(
        model="arm", state=state, command=box("action", [("a", "rad", -1, 1)]), rate_hz=33.3,
        on_silence=OnSilence.OUT_OF_BAND, halt_command=("halt", "now"),
    )  # fmt: skip
    assert decode_spec(encode_spec(spec), RobotSpec) == spec
    assert decode_spec(encode_spec(state), Box) == state
    fresh = encode_spec(state)
    state.check(np.zeros(2, np.float32))  # which keeps what it has worked out
    assert encode_spec(state) == fresh
    image = Image(name="observation.images.front", height=3, width=4)
    assert decode_spec(encode_spec(image), Image) == image


@pytest.mark.parametrize("data", [b"", b"\x90", encode_spec(Image(name="i", height=1, width=1))])
def test_what_is_no_spec_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match=rf"{len(data)} bytes are no Box: "):
        decode_spec(data, Box)


def test_a_spec_whose_parts_do_not_fit_is_refused() -> None:
    wrong = {"name": "b", "names": ["x"], "units": [], "low": [0.0], "high": [1.0]}
    with pytest.raises(WireError, match=r"are no Box: .*of one length"):
        decode_spec(msgspec.msgpack.encode(wrong), Box)
