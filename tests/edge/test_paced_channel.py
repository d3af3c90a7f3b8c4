"""The paced channel over real sockets, against a server that puts pieces together."""

import threading
from collections.abc import Iterator

import pytest

from edge.pace import Heard, Pace, PaceConfig, Phase
from edge.paced_channel import PacedChannel
from user_rl.channels import ClientChannel, Received, ServerChannel
from user_rl.clock import SystemClock
from user_rl.errors import WireError
from user_rl.pieces import Assembler
from user_rl.trust import new_curve_keys
from user_rl.wire import Arrived, Piece, Rows, decode, encode

SERVER, CLIENT = new_curve_keys(), new_curve_keys()
PATIENCE_S = 20.0
CLOCK = SystemClock()


class Door:
    """A server in a thread. `loses`: so many pieces of the first message are taken, then all of it is forgotten."""

    def __init__(self, loses: int = 0, tells: bool = True) -> None:
        self.channel = ServerChannel("tcp://127.0.0.1:0", SERVER, lambda: {CLIENT.public: "edge:arm"})
        self.whole: list[list[bytes]] = []
        self.pieces = 0
        self._assembler, self._loses, self._tells = Assembler(), loses, tells
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            received = self.channel.receive(0.02)
            if received is not None:
                self._take(received)
        self.channel.close()

    def _take(self, received: Received) -> None:
        message, payloads = decode(received.frames)
        if not isinstance(message, Piece):
            self.whole.append([bytes(frame) for frame in received.frames])
            return
        self.pieces += 1
        if self.pieces == self._loses:
            self._assembler = Assembler()
            return
        try:
            taken = self._assembler.take(received.user, received.peer, message, payloads[0], 0.0)
        except WireError:
            if self._tells:
                self.channel.send(received.peer, encode(Arrived(message.number, 0)))
            return
        self.channel.send(received.peer, encode(Arrived(message.number, taken.size)))
        if taken.frames is not None:
            self.whole.append([bytes(frame) for frame in taken.frames])

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def paced(door: Door, rate: float = 4e6) -> tuple[PacedChannel, Pace]:
    pace = Pace(PaceConfig(first_bytes_s=rate, silence_s=60.0), CLOCK.now_s())
    pace.hear(Heard(CLOCK.now_s(), 0.0005, 0.001))
    return PacedChannel(ClientChannel(door.channel.address, CLIENT, SERVER.public), pace), pace


def until(condition: "object") -> None:
    deadline_s = CLOCK.now_s() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert CLOCK.now_s() < deadline_s
        CLOCK.sleep_until(CLOCK.now_s() + 0.005)


def message(size: int) -> list[bytes | memoryview]:
    return encode(Rows("arm/b/run", 0, 1, 0), bytes(range(256)) * (size // 256))


def test_bulk_travels_in_pieces_and_arrives_whole(door: Door) -> None:
    channel, pace = paced(door)
    until(lambda: channel.send(message(200_192)))
    until(lambda: door.whole)
    assert door.whole == [[bytes(frame) for frame in message(200_192)]]
    assert door.pieces >= 200_192 // pace.piece_bytes
    until(lambda: pace.in_flight == 0)
    channel.close()


def test_small_messages_go_as_they_are(door: Door) -> None:
    channel, _ = paced(door)
    until(lambda: channel.send(message(256)))
    until(lambda: door.whole)
    assert door.pieces == 0
    channel.close()


def test_on_a_fast_link_bulk_goes_as_it_is(door: Door) -> None:
    channel, pace = paced(door)
    pace.phase = Phase.FAST
    until(lambda: channel.send(message(200_192)))
    until(lambda: door.whole)
    assert door.pieces == 0
    assert pace.total >= 200_192
    channel.close()


@pytest.mark.slow
@pytest.mark.parametrize("tells", [True, False])
def test_a_message_whose_beginning_the_other_side_lost_begins_anew(tells: bool) -> None:
    door = Door(loses=5, tells=tells)
    channel, _ = paced(door)
    until(lambda: channel.send(message(100_096)))
    until(lambda: door.whole)
    assert door.whole == [[bytes(frame) for frame in message(100_096)]]
    channel.close()
    door.close()


def test_the_owner_is_told_to_wait_while_the_link_is_busy_and_order_is_kept(door: Door) -> None:
    channel, _ = paced(door, rate=400e3)
    sent = 0
    until(lambda: channel.send(message(51_200)))
    while channel.send(message(51_200 + 256 * (sent + 1))):
        sent += 1
    assert sent <= 4
    until(lambda: len(door.whole) == sent + 1)
    assert [len(frames[1]) for frames in door.whole] == [51_200 + 256 * n for n in range(sent + 1)]
    channel.close()


def test_the_owner_hears_answers_and_sometimes_of_progress(door: Door) -> None:
    channel, _ = paced(door, rate=100e3)
    until(lambda: channel.send(message(100_096)))
    frames = channel.receive(PATIENCE_S)
    assert frames is not None
    told, _ = decode(frames)
    assert isinstance(told, Arrived)
    assert 0 < told.size <= 100_200
    channel.close()
    channel.close()


def test_without_a_connection_nothing_is_queued() -> None:
    pace = Pace(PaceConfig(), CLOCK.now_s())
    channel = PacedChannel(ClientChannel("tcp://127.0.0.1:1", CLIENT, SERVER.public), pace)
    assert not channel.send(message(256))
    assert channel.receive(0.0) is None
    channel.close()


def test_many_small_messages_wait_their_turn_while_one_turn_of_the_owner_lasts(door: Door) -> None:
    channel, _ = paced(door, rate=400e3)
    until(lambda: channel.send(message(51_200)))
    assert all(channel.send(message(2_048 + 256 * i)) for i in range(12))
    until(lambda: len(door.whole) == 13)
    channel.close()


def test_a_dead_thread_is_told_and_not_waited_for(door: Door) -> None:
    channel, _ = paced(door)
    channel._courier.stopping.set()
    channel._thread.join()
    with pytest.raises(RuntimeError, match="the thread that sends bulk has died"):
        channel.send(message(1024))
    channel.close()
