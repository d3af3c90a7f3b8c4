"""Acting from afar, through real sockets and real memory: chunks come, and whatever happens to them, something acts."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.inference.config import Fallback, InferenceConfig, Where
from scripts.netlab.delay import DelayProxy
from tests.edge.inference.rig import ARM, CLOUD, LOCAL, OTHER, Afar, cloud_at, publish, value_of
from user_rl.channels import ServerChannel
from user_rl.trust import new_curve_keys
from user_rl.wire import Actions, Infer, Probe, Probed, decode, encode

pytestmark = pytest.mark.slow

FAST = InferenceConfig(where=Where.REMOTE, pictures="raw", probe_s=0.05, remember_s=0.6, silent_s=0.6, settle_s=0.2)
Make = Callable[..., Afar]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:

        def afar(config: InferenceConfig = FAST, rate_hz: float = 100.0) -> Afar:
            made = Afar(tmp_path, stack, config, rate_hz=rate_hz)
            publish(made.store, 0.5)
            return made

        yield afar


def far(proposal: object) -> bool:
    return value_of(proposal) == 0.5  # type: ignore[arg-type]


def test_chunks_act_at_every_step_once_the_first_has_come(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, probe_s=0.05, horizon=30, execute=10))
    courier = bench.send(cloud_at(bench.serve().address))
    bench.actor.begin()
    first = bench.until(far)
    assert first is not None
    assert first.version == 1
    assert first.version_hash == bench.store.manifest(1).digest16
    assert [value_of(p) for p in bench.steps(100)] == [0.5] * 100
    assert courier.words.startswith("acts from cloud: cloud p95 ")


def test_without_a_policy_beside_the_robot_an_episode_may_begin_once_a_server_was_chosen(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, fallback=Fallback.HOLD, probe_s=0.05))
    assert bench.actor.over(None) is None
    bench.send(cloud_at(bench.serve().address))
    bench.until(lambda _: bench.actor.over(None) is not None)
    bench.actor.begin()
    assert far(bench.until(far))


def test_a_delayed_link_costs_steps_before_the_first_chunk_only(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, probe_s=0.1, horizon=50, execute=20, pictures="raw"))
    with DelayProxy(bench.serve().address, 0.04) as proxy:  # 80 ms there and back: 8 steps and more
        bench.send(cloud_at(proxy.address))
        bench.until(far)
        bench.actor.begin()
        acted = [value_of(p) for p in bench.steps(150)]
        late = acted.index(0.5)
        assert 2 <= late <= 45
        assert acted[:late] == [LOCAL] * late
        assert acted[late:] == [0.5] * (150 - late)


def test_a_newer_version_is_swapped_in_mid_episode_and_each_row_says_which_acted(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, probe_s=0.05, horizon=30, execute=10))
    bench.send(cloud_at(bench.serve().address))
    bench.actor.begin()
    bench.until(far)
    publish(bench.store, -0.75)
    seen: list[tuple[float | None, int]] = []
    while not seen or seen[-1] != (-0.75, 2):
        proposal = bench.until(lambda p: p is not None)
        assert proposal is not None
        seen.append((value_of(proposal), proposal.version))
    versions = [number for _, number in seen]
    assert versions == sorted(versions)
    assert all((value or 0) >= -0.126 for value, number in seen if number == 1)  # nearer to the first version's
    jumps = np.abs(np.diff([value or 0.0 for value, _ in seen]))
    assert jumps.max() < 0.4  # 1.25 lie between the two


def test_a_server_that_dies_is_replaced_by_the_policy_beside_the_robot_and_returns_by_itself(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make()
    server = bench.serve()
    courier = bench.send(cloud_at(server.address))
    bench.actor.begin()
    bench.until(far)
    with caplog.at_level(logging.INFO, "edge.inference.courier"):
        server.stop()
        bench.thread.join()
        bench.until(lambda p: value_of(p) == LOCAL)
        bench.until(lambda _: courier.words.startswith("acts from fallback local: nobody keeps the deadline"))
        bench.serve(server.address)
        bench.until(far)
    told = [r.getMessage() for r in caplog.records]
    assert told[0].startswith("acts from nowhere but the fallback: nobody keeps the deadline: cloud ")
    assert told[-1].startswith("acts from cloud: cloud p95 ")


def test_with_hold_nothing_acts_while_the_server_is_gone(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, fallback=Fallback.HOLD, probe_s=0.05, silent_s=0.5))
    server = bench.serve()
    bench.send(cloud_at(server.address))
    bench.actor.begin()
    bench.until(far)
    server.stop()
    bench.thread.join()
    bench.until(lambda p: p is None)


def test_a_server_with_another_key_is_never_asked(make: Make) -> None:
    bench = make()
    impostor = bench.serve(keys=new_curve_keys())
    bench.send(cloud_at(impostor.address))
    bench.actor.begin()
    assert [value_of(p) for p in bench.steps(60)] == [LOCAL] * 60
    assert impostor.status()["answered"] == 0


def test_a_place_with_keys_of_its_own_is_known_by_them(make: Make) -> None:
    bench, keys = make(), new_curve_keys()
    server = bench.serve(keys=keys)
    bench.send(cloud_at(server.address, name="site-a", site="a", curve_public=keys.public))
    bench.actor.begin()
    bench.until(far)


def test_an_edge_gets_no_action_for_another_cell_nor_without_a_lease(make: Make) -> None:
    bench = make()
    server = bench.serve()
    bench.send(cloud_at(server.address), curve=OTHER)
    bench.actor.begin()
    bench.until(lambda _: server.status()["refused"] > 1)
    assert server.status()["answered"] == 0


def test_a_cell_whose_lease_has_ended_is_not_answered_any_more(make: Make) -> None:
    bench = make()
    bench.send(cloud_at(bench.serve().address))
    bench.actor.begin()
    bench.until(far)
    bench.tokens.clear()
    bench.until(lambda p: value_of(p) == LOCAL)
    bench.tokens["arm"] = 2
    bench.until(far)


def test_in_auto_the_edge_takes_over_what_the_cloud_cannot_do_in_time_and_gives_it_back(make: Make) -> None:
    bench = make(replace(FAST, where=Where.AUTO))
    with DelayProxy(bench.serve().address, 0.0) as proxy:  # 5 periods of 10 ms are allowed
        courier = bench.send(cloud_at(proxy.address))
        bench.actor.begin()
        bench.until(far)
        proxy.delay_s = 0.05
        bench.until(lambda _: courier.words.startswith("acts from edge: edge p95 "))
        assert [value_of(p) for p in bench.steps(20)] == [LOCAL] * 20
        proxy.delay_s = 0.0
        bench.until(far)


class Liar:
    """A server under the right key whose answers are made up."""

    def __init__(
        self, answer: Callable[[Infer, memoryview], list[bytes | memoryview]], *, takes_prefix: bool = False
    ) -> None:
        self._answer, self._takes_prefix, self._stopping = answer, takes_prefix, threading.Event()
        self._channel = ServerChannel("tcp://127.0.0.1:0", CLOUD, lambda: {ARM.public: "edge:arm"})
        self.address, self.asked = self._channel.address, 0
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Liar":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            received = self._channel.receive(0.02)
            if received is not None:
                message, payloads = decode(received.frames)
                if isinstance(message, Probe):
                    self._channel.send(received.peer, encode(Probed(message.sent_s, 1, 0.0, self._takes_prefix, True)))
                elif isinstance(message, Infer):
                    self.asked += 1
                    self._channel.send(received.peer, self._answer(message, payloads[0]))
        self._channel.close()


def actions(message: Infer, payload: bytes, *, step: int | None = None, horizon: int = 10) -> list[bytes | memoryview]:
    made = Actions(message.step if step is None else step, 1, bytes(16), horizon, 0.0)
    return encode(made, payload)


GOOD = np.full((10, 2), 0.5, "<f4").tobytes()


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (lambda m: actions(m, GOOD[:-4]), "a chunk of 76 bytes, allowed 10 x 2 float32; it is dropped"),
        (
            lambda m: actions(m, GOOD[:-4] + np.float32("nan").tobytes()),
            "a chunk that leaves the bounds of command",
        ),
        (lambda m: actions(m, GOOD[:-4] + np.float32(1.01).tobytes()), "a chunk that leaves the bounds of command"),
        (lambda m: actions(m, GOOD, step=m.step + 5), ""),
        (lambda m: actions(m, GOOD + GOOD, horizon=20), "a chunk of 20 steps, allowed 10, as many as were asked for"),
        (lambda m: [b"\x01 nonsense"], "a header of 10 bytes is no message"),
        (lambda m: encode(Probed(0.0, 1, 0.0, False, True)), "a Probed that nobody asked for; it is dropped"),
    ],
    ids=["too short", "not a number", "out of bounds", "another step", "too long", "no message", "no answer"],
)
def test_garbage_never_acts(
    make: Make, caplog: pytest.LogCaptureFixture, lie: Callable[[Infer], list[bytes | memoryview]], words: str
) -> None:
    bench = make()
    with Liar(lambda message, _: lie(message)) as liar, caplog.at_level(logging.WARNING, "edge.inference.place"):
        bench.send(cloud_at(liar.address))
        bench.actor.begin()
        bench.until(lambda p: liar.asked > 0)
        assert {value_of(p) for p in bench.steps(30)} == {LOCAL}
    told = [r.getMessage() for r in caplog.records]
    assert not words or any(line.startswith(f"inference at cloud: {words}") for line in told), told


@pytest.mark.long
def test_a_hundred_steps_at_ten_hertz_over_eighty_milliseconds_are_on_time(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE), rate_hz=10.0)
    with DelayProxy(bench.serve().address, 0.04) as proxy:
        bench.send(cloud_at(proxy.address))
        bench.until(far)
        bench.actor.begin()
        begun_s = bench.clock.now_s()
        acted = [value_of(p) for p in bench.steps(100)]
        assert abs(bench.clock.now_s() - begun_s - 10.0) < 0.1
        late = acted.index(0.5)
        assert late <= 2
        assert acted[late:] == [0.5] * (100 - late)


def test_only_a_policy_that_takes_a_prefix_is_sent_one(make: Make) -> None:
    bench = make(InferenceConfig(where=Where.REMOTE, probe_s=0.05, pictures="raw", horizon=20, execute=10))
    for takes in (False, True):
        prefixes: list[list[float]] = []

        def answer(message: Infer, payload: memoryview, kept: list[list[float]] = prefixes) -> list[bytes | memoryview]:
            sent = np.frombuffer(payload, "<f4", 2 * message.prefix, len(payload) - 8 * message.prefix)
            kept.append(sent.tolist())
            return actions(message, np.full((20, 2), 0.5, "<f4").tobytes(), horizon=20)

        with Liar(answer, takes_prefix=takes) as liar:
            courier = bench.send(cloud_at(liar.address))
            bench.actor.begin()
            bench.until(lambda _, kept=prefixes: len(kept) > 2)  # type: ignore[misc]
            courier.stop()
        assert prefixes[0] == []  # nothing is planned yet
        assert any(prefixes[1:]) is takes
        assert {number for sent in prefixes for number in sent} <= {0.5}


def test_a_chunk_whose_steps_are_all_past_is_not_posted(make: Make) -> None:
    bench = make()
    courier = bench.send()
    courier.stop()
    bench.actor.begin()
    bench.steps(10)
    last = Actions(bench.window.step - 9, 1, bytes(16), 10, 0.0)
    assert courier._fault(last, memoryview(GOOD)) == ""
    past = Actions(bench.window.step - 10, 1, bytes(16), 10, 0.0)
    assert courier._fault(past, memoryview(GOOD)) == "of 10 steps that is 10 steps old"
