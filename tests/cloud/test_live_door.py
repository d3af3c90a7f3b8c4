"""The live door over real sockets, with the edge's own line on the other side where that is the subject."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.gateway import GatewayConfig
from cloud.live_door import LiveDoor
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.trust import new_curve_keys
from user_rl.wire import Ack, Live, Message, Picture, Ping, Pong, Timings, decode, encode

SERVER, CLIENT, LABELLER = new_curve_keys(), new_curve_keys(), new_curve_keys()
ALLOWED = {CLIENT.public: "edge:arm", LABELLER.public: "labeller:me"}
PATIENCE_S = 20.0
CLOCK = SystemClock()
JPEG = b"\xff\xd8 a picture"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[LiveDoor]:
    made = LiveDoor(tmp_path, GatewayConfig(), keys=SERVER, allowed=lambda: ALLOWED, clock=CLOCK)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.stop()
    thread.join()


@pytest.fixture
def edge(door: LiveDoor) -> Iterator[ClientChannel]:
    channel = ClientChannel(door.address, CLIENT, SERVER.public)
    assert channel.ready(PATIENCE_S)
    yield channel
    channel.close()


def live(**changes: object) -> Live:
    fields: dict[str, object] = {
        "cell": "arm", "run": "run", "boot": "b", "episode": 3, "step": 17, "state": "running", "version": 2,
        "stamp_s": 1.0, "robot": bytes(8), "steps_per_s": 10.0, "late": 0, "round_trip_s": 0.08, "queue_s": 0.002,
        "pace_bytes_s": 2e6, "sent_bytes_s": 1e6, "waiting_rows": 5, "spool_bytes": 1000,
    }  # fmt: skip
    return Live(**{**fields, **changes})  # type: ignore[arg-type]


def say(channel: ClientChannel, message: Message, *payloads: bytes) -> None:
    assert channel.send(encode(message, *payloads))


def until(condition: Callable[[], object]) -> None:
    deadline_s = CLOCK.now_s() + PATIENCE_S
    while not condition():
        assert CLOCK.now_s() < deadline_s
        CLOCK.sleep_until(CLOCK.now_s() + 0.01)


def answered(channel: ClientChannel) -> Pong:
    """Everything said before was taken up when this returns."""
    say(channel, Ping(CLOCK.now_s(), b"x" * 1024))
    frames = channel.receive(PATIENCE_S)
    assert frames is not None
    pong, _ = decode(frames)
    assert isinstance(pong, Pong)
    return pong


def test_a_ping_is_answered_with_its_stamp_its_body_and_the_time_it_took(edge: ClientChannel) -> None:
    before_s = CLOCK.now_s()
    pong = answered(edge)
    assert before_s <= pong.sent_s <= pong.came_s <= pong.left_s <= CLOCK.now_s()
    assert pong.body == b"x" * 1024


def test_what_a_cell_shows_lies_in_files_that_anyone_may_read(edge: ClientChannel, tmp_path: Path) -> None:
    say(edge, Picture("front", 17), JPEG)
    until(lambda: (tmp_path / "live" / "arm-front.jpg").exists())
    say(edge, live(robot=b"\x00\x00\x80\x3f" + b"\x00\x00\xc0\x7f"))
    say(edge, live())

    def written() -> bool:
        say(edge, live(step=18))
        return (tmp_path / "live" / "arm.json").exists()

    until(written)
    shown = json.loads((tmp_path / "live" / "arm.json").read_text())
    assert (shown["cell"], shown["state"], shown["cameras"], shown["robot"]) == ("arm", "running", ["front"], [0, 0])
    assert (tmp_path / "live" / "arm-front.jpg").read_bytes() == JPEG
    assert {path.name for path in (tmp_path / "live").iterdir()} == {"arm.json", "arm-front.jpg"}


def test_files_are_written_twice_a_second_at_most(edge: ClientChannel, tmp_path: Path) -> None:
    started_s = CLOCK.now_s()
    for step in range(50):
        say(edge, live(step=step))
        answered(edge)
    shown = json.loads((tmp_path / "live" / "arm.json").read_text())
    assert shown["step"] == 0 or CLOCK.now_s() - started_s > 0.5


@pytest.mark.parametrize(
    ("message", "payloads"),
    [
        (live(cell="other"), ()),
        (live(queue_s=float("nan")), ()),
        (live(robot=b"123"), ()),
        (Picture("front", 1), (b"no picture",)),
        (Timings(b"[1, 2]"), ()),
        (Timings(b"{"), ()),
        (Ack("arm/b/run", 1), ()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_is_refused(
    door: LiveDoor, edge: ClientChannel, tmp_path: Path, message: Message, payloads: tuple[bytes, ...]
) -> None:
    say(edge, message, *payloads)
    answered(edge)
    assert door.refused == 1
    assert not list(tmp_path.rglob("*.json*"))


def test_a_camera_beyond_eight_and_one_with_a_path_in_its_name_are_refused(
    door: LiveDoor, edge: ClientChannel, tmp_path: Path
) -> None:
    for number in range(9):
        say(edge, Picture(f"c{number}", 1), JPEG)
    assert edge.send(encode(Picture("../../evil", 1), JPEG))
    answered(edge)
    assert door.refused == 2
    assert not (tmp_path.parent / "evil.jpg").exists()


def test_only_edges_show_anything(door: LiveDoor, tmp_path: Path) -> None:
    channel = ClientChannel(door.address, LABELLER, SERVER.public)
    assert channel.ready(PATIENCE_S)
    say(channel, live(cell="me"))
    answered(channel)
    assert door.refused == 1
    channel.close()


def test_telemetry_is_appended_and_rotated(
    edge: ClientChannel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.live_door.TELEMETRY_BYTES", 60)
    for number in range(5):
        say(edge, Timings(json.dumps({"late_p99_ms": number, "filler": "x" * 10}).encode()))
    answered(edge)
    text = "".join((tmp_path / "telemetry" / name).read_text() for name in ("arm.jsonl.1", "arm.jsonl"))
    assert [json.loads(line)["late_p99_ms"] for line in text.splitlines()] == [2, 3, 4]
