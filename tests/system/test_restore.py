"""A cloud that went back in time: robots send again what their spools still hold, the rest is a gap, all in order.

Real logs on both sides, the robot's own uplink and downlink, the gateway's own ingest and weights; no socket between.
"""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.backup import back_up
from cloud.ingest import GatewayConfig, Ingest
from cloud.restore import restore
from cloud.run import RunFolder, keep_config
from cloud.testing import episode_rows, state_schema
from cloud.weights import WeightStore
from edge.config import LinkConfig
from edge.uplink import Uplink
from user_rl.channels import Received
from user_rl.clock import FakeClock
from user_rl.downlink import Downlink
from user_rl.log import Gap, Log, LogConfig, Reader, compare, verify
from user_rl.rows import Klass
from user_rl.specs import Array, box
from user_rl.versions import PolicySpec
from user_rl.wire import WeightsOffer, WeightsPart, WeightsQuery, WeightsRange, encode

pytestmark = pytest.mark.slow
SCHEMA, STREAM = state_schema(), "cell-0/b1/run"
LENGTH = 50  # rows of an episode
SPOOL = LogConfig(segment_bytes=64 * 1024, max_bytes=4 * 64 * 1024)


def episode(number: int) -> Array:
    klass = Klass.DEMONSTRATION if number % 3 == 0 else Klass.ONLINE
    rng = np.random.default_rng(number)
    rows = episode_rows(
        SCHEMA, rng, length=LENGTH - 1, first_step=number * LENGTH, number=number, klass=klass
    )  # fmt: skip
    rows["run"] = b"run"
    return rows


def record(spool: Log, *numbers: int) -> None:
    spool.open_stream(STREAM, SCHEMA)
    for number in numbers:
        spool.append(STREAM, episode(number))
    spool.commit()


def talk(uplink: Uplink, cloud: Log) -> None:
    """The robot meets a gateway with this log, until neither has anything to say."""
    clock = FakeClock()
    ingest = Ingest("run", cloud, GatewayConfig(), tokens=lambda _: 1, demonstrations=0, clock=clock)
    uplink.reconnected(clock.now_s())
    while True:
        while (out := uplink.next(clock.now_s())) is not None:
            message, payload = out
            frames = [memoryview(frame) for frame in encode(message, *([payload] if payload else []))]
            uplink.sent(clock.now_s())
            for _, answer in ingest.receive(Received(b"peer", "edge:cell-0", frames)):
                uplink.receive(answer, None, clock.now_s())
        if not ingest.pending:
            return
        for _, answer in ingest.commit():
            uplink.receive(answer, None, clock.now_s())


def make_uplink(spool: Log) -> Uplink:
    uplink = Uplink(spool, LinkConfig(), {})
    uplink.serve("run", 1, "", 0.0)
    return uplink


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder((tmp_path / "runs" / "run").resolve())
    keep_config(found, {"overrides": [], "tree": {"run": "run"}})
    return found


def lose_and_restore(folder: RunFolder, kept: Path) -> None:
    folder.root.rename(folder.root.with_name("lost"))
    restore(kept, folder.root.parent)


def test_what_the_spool_still_holds_is_sent_again(folder: RunFolder, tmp_path: Path) -> None:
    with Log(tmp_path / "spool") as spool:
        record(spool, 0, 1, 2)
        uplink = make_uplink(spool)
        with Log(folder.log) as cloud:
            talk(uplink, cloud)
            assert uplink.done
        back_up(folder, tmp_path / "kept")
        record(spool, 3, 4, 5, 6)
        with Log(folder.log) as cloud:
            talk(uplink, cloud)
        assert uplink.acknowledged == {STREAM: 7 * LENGTH - 1}
        lose_and_restore(folder, tmp_path / "kept")
        with Log(folder.log) as cloud:
            assert cloud.synced(STREAM) == 3 * LENGTH - 1
            record(spool, 7)
            talk(uplink, cloud)
            assert uplink.acknowledged == {STREAM: 8 * LENGTH - 1}
            assert cloud.gaps() == []
            whole = np.concatenate([episode(n) for n in range(8)]).tobytes()
            assert b"".join(chunk.data for chunk in cloud.read(STREAM, 0, 2**30)) == whole
            assert [e.closed for e in cloud.episodes()] == [True] * 8
    with Reader(tmp_path / "spool") as edge, Reader(folder.log) as cloud_reader:
        compared = compare(edge, cloud_reader, "run")
    assert (compared.rows, compared.rows_lost, compared.rows_duplicated, compared.rows_differing) == (400, 0, 0, 0)
    assert verify(folder.log) == []


def test_what_nobody_has_any_more_is_a_committed_gap(folder: RunFolder, tmp_path: Path) -> None:
    with Log(tmp_path / "spool", SPOOL) as spool:
        record(spool, 0, 1)
        uplink = make_uplink(spool)
        with Log(folder.log) as cloud:
            talk(uplink, cloud)
        back_up(folder, tmp_path / "kept")
        with Log(folder.log) as cloud:
            number = 2
            while spool.first_kept(STREAM) <= 4 * LENGTH:  # trimmed beyond the backup
                record(spool, number)
                talk(uplink, cloud)
                spool.trim(uplink.acknowledged)
                number += 1
        first = spool.first_kept(STREAM)
        lose_and_restore(folder, tmp_path / "kept")
        with Log(folder.log) as cloud:
            talk(uplink, cloud)
            assert uplink.done
            assert cloud.gaps() == [Gap(STREAM, 2 * LENGTH, first - 1)]
            rows = SCHEMA.view(b"".join(chunk.data for chunk in cloud.read(STREAM, 0, 2**30)))
            assert rows["step"].tolist() == [*range(2 * LENGTH), *range(first, number * LENGTH)]
            seqs = cloud.synced(STREAM)
        assert seqs == number * LENGTH - 1
        assert verify(folder.log) == []


def test_a_spool_that_was_trimmed_empty_leaves_a_gap_and_goes_on(folder: RunFolder, tmp_path: Path) -> None:
    with Log(tmp_path / "spool", SPOOL) as spool:
        record(spool, 0)
        uplink = make_uplink(spool)
        with Log(folder.log) as cloud:
            talk(uplink, cloud)
        back_up(folder, tmp_path / "kept")
        lose_and_restore(folder, tmp_path / "kept")
        back_up(folder, tmp_path / "kept")  # a restored run goes on being backed up to the same folder
        record(spool, 1)
        with Log(folder.log) as cloud:
            talk(make_uplink(spool), cloud)  # another life of the link
            assert cloud.synced(STREAM) == 2 * LENGTH - 1


def test_a_robot_takes_the_weights_of_a_restored_run_over_the_lost_ones_that_it_holds(
    folder: RunFolder, tmp_path: Path
) -> None:
    policy = PolicySpec(kind="mlp", action=box("action", [("a", "", -1.0, 1.0)]), settings={})

    def publish(value: float) -> WeightStore:
        store = WeightStore(folder.weights)
        store.publish({"w": np.full(4, value, "f4")}, policy, schema=SCHEMA.digest, updates=1, incarnation="one")
        return store

    times = count(1000, 1000)
    with Log(folder.log) as log:
        record(log, 0)
    publish(1.0)
    back_up(folder, tmp_path / "kept")
    for _ in range(5):
        store = publish(2.0)
    downlink = Downlink(tmp_path / "weights", "run", LinkConfig(), schema=SCHEMA.digest, action=policy.action)
    fetch(downlink, store, times)
    assert downlink.newest is not None
    assert downlink.newest.number == 6
    lose_and_restore(folder, tmp_path / "kept")
    fetch(downlink, publish(3.0), times)
    assert downlink.newest.number == WeightStore(folder.weights).highest() > 6
    assert WeightStore(folder.weights).load(downlink.newest.number)[1]["w"].tolist() == [3.0] * 4


def fetch(downlink: Downlink, store: WeightStore, times: Iterator[int]) -> None:
    """As the gateway's weights socket answers, until there is nothing newer."""
    for now_s in islice(times, 100):
        out = downlink.next(float(now_s))
        assert out is not None
        downlink.sent(float(now_s))
        message = out[0]
        if isinstance(message, WeightsQuery):
            newest = store.newest()
            assert newest is not None
            fresh = newest.number > message.have
            downlink.receive(WeightsOffer(msgspec.json.encode(newest) if fresh else b""), None, float(now_s))
            if not fresh:
                return
        else:
            assert isinstance(message, WeightsRange)
            data, total = store.read(message.number, message.offset, message.length)
            downlink.receive(WeightsPart(message.number, message.offset, total), memoryview(data), float(now_s))
    raise AssertionError("the downlink never came to an end")
