"""The edge's live line against a door of its own making, over real sockets."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edge.live import LiveLine, Spooled
from edge.live_view import View, smaller
from edge.orders import Card, Report, State
from edge.pace import Heard, Pace, PaceConfig
from edge.ring import Ring
from edge.shared import Shared, make_shared
from user_rl.channels import ServerChannel
from user_rl.clock import SystemClock
from user_rl.rows import make_schema
from user_rl.specs import Image, box
from user_rl.trust import Bundle, new_curve_keys
from user_rl.wire import Live, Message, Picture, Ping, Pong, Timings, decode, encode

SERVER, CLIENT = new_curve_keys(), new_curve_keys()
PATIENCE_S = 20.0
CLOCK = SystemClock()
STATE = box("state", [("x", "m", -1, 1), ("y", "m", -1, 1)])
SCHEMA = make_schema(
    {"observation.state": STATE, "observation.images.front": Image(name="front", height=120, width=320)}, STATE
)


class Door:
    """Answers pings as if it took a second over each, and keeps what else is said."""

    def __init__(self) -> None:
        self.channel = ServerChannel("tcp://127.0.0.1:0", SERVER, lambda: {CLIENT.public: "edge:arm"})
        self.heard: list[tuple[Message, bytes]] = []
        self.pings = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            received = self.channel.receive(0.02)
            if received is None:
                continue
            message, payloads = decode(received.frames)
            if isinstance(message, Ping):
                self.pings += 1
                now_s = CLOCK.now_s() + 5000.0
                self.channel.send(received.peer, encode(Pong(message.sent_s, now_s, now_s)))
            else:
                self.heard.append((message, bytes(payloads[0]) if payloads else b""))
        self.channel.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


RECORD = b'{"timings": {}}'


def until(condition: Callable[[], object]) -> None:
    deadline_s = CLOCK.now_s() + PATIENCE_S
    while not condition():
        assert CLOCK.now_s() < deadline_s
        CLOCK.sleep_until(CLOCK.now_s() + 0.01)


def ring_of(shared: Shared) -> Ring:
    ring = shared.make_ring(Card(schema=SCHEMA.encoded, model="m", rate_hz=10.0, on_silence="stops"), 0)
    row = ring.rows[ring.slot()]
    row["step"], row["observation.state"], row["observation.images.front"] = 41, (0.5, -0.5), 77
    ring.publish(0)
    shared.report.post(Report(state=State.RUNNING, episode=4, version=6, steps_per_s=10.0, step=41))
    return ring


def line(door: Door, rate: float = 5e6, live_hz: float = 30.0, **more: object) -> tuple[LiveLine, Pace]:
    shared = make_shared(bytes(16))
    bundle = Bundle(
        kind="edge", name="arm", fleet_address="f:1", server_name="s", ca_pem="", cert_pem="", key_pem="",
        curve=CLIENT, server_curve_public=SERVER.public,
    )  # fmt: skip
    up, down = (Pace(PaceConfig(first_bytes_s=rate), CLOCK.now_s()) for _ in range(2))
    made = LiveLine(bundle, View(Shared(shared.fd), ring_of(shared), "arm"), up, down, live_hz, **more)  # type: ignore[arg-type]
    made.address, made.spooled = door.channel.address, Spooled("run", "b", 12, 3456)
    return made, up


def kinds(door: Door) -> set[type]:
    return {type(message) for message, _ in door.heard}


def test_the_newest_row_and_its_pictures_are_shown_without_controls_help(door: Door) -> None:
    made, _ = line(door, timings=lambda: RECORD)
    made.start()
    until(lambda: {Live, Picture, Timings} <= kinds(door))
    shown = len(door.heard)
    until(lambda: sum(isinstance(message, Live) for message, _ in door.heard[shown:]) > 2)
    made.close()
    assert [message.record for message, _ in door.heard if isinstance(message, Timings)] == [RECORD]  # once
    live = next(message for message, _ in door.heard if isinstance(message, Live))
    assert (live.cell, live.run, live.step, live.episode, live.state) == ("arm", "run", 41, 4, "running")
    assert (live.waiting_rows, live.spool_bytes, live.version) == (12, 3456, 6)
    assert np.frombuffer(live.robot, "<f4").tolist() == [0.5, -0.5]
    picture, data = next((m, data) for m, data in door.heard if isinstance(m, Picture))
    assert (picture.camera, picture.step) == ("front", 41)
    assert data.startswith(b"\xff\xd8")


def test_pings_measure_the_link_alone(door: Door) -> None:
    made, up = line(door, live_hz=0.0)
    made.start()

    def measured() -> bool:
        up.turn(CLOCK.now_s())
        return up.round_trip.value > 0

    assert made.state(CLOCK.now_s()) in ("no address yet", "nothing heard yet", "open")
    until(measured)
    assert made.state(CLOCK.now_s()) == "open"
    assert made.state(CLOCK.now_s() + 20) == "nothing heard for 20 s"
    made.close()
    assert up.round_trip.value < 0.5
    assert kinds(door) == set()


def test_each_way_is_measured_apart_without_the_answerers_own_time(door: Door) -> None:
    made, up = line(door)
    made._hear([memoryview(f) for f in encode(Pong(10.0, 5000.2, 5000.7))], 11.0)
    for pace, delay_s in ((up, 4990.2), (made._down, 11.0 - 5000.7)):
        heard = pace._inbox.pop()
        assert isinstance(heard, Heard)
        assert (heard.sent_s, heard.delay_s, heard.round_trip_s) == pytest.approx((10.0, delay_s, 0.5))
    for bad in (Pong(10.0, 5000.0, 5001.1), Pong(10.0, 5000.5, 5000.0), Pong(10.0, float("nan"), 5000.0)):
        made._hear([memoryview(f) for f in encode(bad)], 11.0)
    made._hear([memoryview(b"no message")], 11.0)
    assert not up._inbox
    made.close()


def test_on_a_link_that_is_too_thin_there_are_no_pictures(door: Door) -> None:
    made, _ = line(door, rate=20e3)
    made.start()
    until(lambda: len(door.heard) >= 2)
    made.close()
    made.close()
    assert kinds(door) == {Live}


def test_what_is_shown_is_taken_off_bulks_budget(door: Door) -> None:
    made, up = line(door)
    made.start()
    until(lambda: Picture in kinds(door))
    made.close()
    now_s = CLOCK.now_s()
    up.turn(now_s)
    assert up._tokens < -1000


def test_pings_that_one_way_asks_for_never_fill_the_other(door: Door) -> None:
    made, up = line(door)
    now_s = CLOCK.now_s()
    made._down.budget(now_s)
    assert made._ping_every_s(now_s) == pytest.approx(0.01)
    up.rate = 8e3
    assert made._ping_every_s(now_s) == pytest.approx(0.1)
    made.close()


def test_another_address_is_another_connection(door: Door) -> None:
    other = Door()
    made, _ = line(door)
    made.start()
    until(lambda: door.pings)
    made.address = other.channel.address
    until(lambda: other.pings)
    made.address = ""
    until(lambda: made._channel is None)
    made.close()
    other.close()


@pytest.mark.parametrize(
    ("shape", "width", "expected"),
    [((120, 320, 3), 160, (60, 160, 3)), ((90, 100, 1), 160, (90, 100, 1)), ((480, 641, 3), 160, (96, 128, 3))],
)
def test_a_picture_becomes_small(shape: tuple[int, ...], width: int, expected: tuple[int, ...]) -> None:
    image = np.full(shape, 200, np.uint8)
    small = smaller(image, width)
    assert small.shape == expected
    assert (small == 200).all()


def test_pixels_are_averaged() -> None:
    image = np.zeros((2, 4, 1), np.uint8)
    image[0, :2], image[1, :2] = 100, 200
    assert smaller(image, 2)[:, :, 0].tolist() == [[150, 0]]
