"""The downlink: a transfer that goes on where it broke, and nothing shown that is not whole and right."""

import hashlib
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config import LinkConfig
from tests.edge.rig import COMMAND, SCHEMA, version
from user_rl.downlink import Downlink
from user_rl.specs import box
from user_rl.versions import PolicySpec, Version
from user_rl.wire import Message, Refused, WeightsOffer, WeightsPart, WeightsQuery, WeightsRange

CONFIG = LinkConfig(part_bytes=10, answer_s=5.0, weights_every_s=0.3, keep_versions=2)


class Store:
    """The cloud's side: whatever was published last, in parts."""

    def __init__(self) -> None:
        self.files: dict[int, tuple[Version, bytes]] = {}
        self.parts = 0

    def publish(self, number: int, data: bytes, **changes: object) -> Version:
        made = version(number, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        made = msgspec.structs.replace(made, **changes)
        self.files[number] = made, data
        return made

    def answer(self, message: Message) -> tuple[Message, memoryview | None]:
        if isinstance(message, WeightsQuery):
            newest = max(self.files, default=0)
            fresh = newest > message.have
            return WeightsOffer(msgspec.json.encode(self.files[newest][0]) if fresh else b""), None
        assert isinstance(message, WeightsRange)
        self.parts += 1
        data = self.files[message.number][1]
        part = data[message.offset : message.offset + message.length]
        return WeightsPart(message.number, message.offset, len(data)), memoryview(part)


def downlink(root: Path) -> Downlink:
    return Downlink(root, "run", CONFIG, schema=SCHEMA.digest, action=COMMAND)


def exchange(machine: Downlink, store: Store, now_s: float, times: int = 50) -> None:
    """Lets both talk until the machine has nothing to say, at most `times`."""
    for _ in range(times):
        out = machine.next(now_s)
        if out is None:
            return
        machine.sent(now_s)
        machine.receive(*store.answer(out[0]), now_s)


def test_the_newest_version_is_fetched_in_parts_and_then_named(tmp_path: Path) -> None:
    store, machine = Store(), downlink(tmp_path)
    made = store.publish(3, b"x" * 25)
    exchange(machine, store, 0.0)
    assert store.parts == 3
    assert machine.newest == made
    assert machine.folder == tmp_path / "00000003"
    assert (tmp_path / "00000003/weights.safetensors").read_bytes() == b"x" * 25
    assert msgspec.json.decode((tmp_path / "00000003/manifest.json").read_bytes(), type=Version) == made
    assert [p.name for p in tmp_path.iterdir()] == ["00000003"]


def test_it_asks_again_and_again_but_not_all_the_time(tmp_path: Path) -> None:
    store, machine = Store(), downlink(tmp_path)
    exchange(machine, store, 0.0)
    assert machine.next(0.29) is None
    assert machine.next(0.3) == (WeightsQuery("run", 0), None)
    store.publish(1, b"1")
    exchange(machine, store, 0.3)
    exchange(machine, store, 0.6)
    assert machine.next(1.2) == (WeightsQuery("run", 1), None)


def test_an_answer_that_does_not_come_is_asked_for_again(tmp_path: Path) -> None:
    machine = downlink(tmp_path)
    machine.sent(0.0)
    assert machine.next(4.9) is None
    assert machine.next(5.0) is not None


def test_a_broken_transfer_goes_on_at_its_length_even_in_another_process(tmp_path: Path) -> None:
    store = Store()
    store.publish(1, bytes(range(35)))
    exchange(downlink(tmp_path), store, 0.0, times=3)
    assert (tmp_path / "00000001.part/weights.safetensors").stat().st_size == 20
    machine = downlink(tmp_path)
    store.parts = 0
    exchange(machine, store, 0.0)
    assert store.parts == 2
    assert machine.folder is not None
    assert (machine.folder / "weights.safetensors").read_bytes() == bytes(range(35))


def test_a_part_of_an_older_life_with_the_same_number_is_thrown_away(tmp_path: Path) -> None:
    store = Store()
    store.publish(1, b"a" * 35)
    exchange(downlink(tmp_path), store, 0.0, times=3)
    store.publish(1, b"b" * 35)
    machine = downlink(tmp_path)
    exchange(machine, store, 0.0)
    assert machine.folder is not None
    assert (machine.folder / "weights.safetensors").read_bytes() == b"b" * 35


def test_a_version_that_is_here_already_is_not_fetched_again(tmp_path: Path) -> None:
    store = Store()
    store.publish(1, b"a" * 35)
    exchange(downlink(tmp_path), store, 0.0)
    store.parts, machine = 0, downlink(tmp_path)
    assert machine.newest is None
    exchange(machine, store, 0.0)
    assert store.parts == 0
    assert machine.newest is not None


def test_a_version_whose_file_was_damaged_on_disk_is_fetched_again(tmp_path: Path) -> None:
    store = Store()
    store.publish(1, b"a" * 35)
    exchange(downlink(tmp_path), store, 0.0)
    (tmp_path / "00000001/weights.safetensors").write_bytes(b"b" * 35)
    machine = downlink(tmp_path)
    exchange(machine, store, 0.0)
    assert machine.folder is not None
    assert (machine.folder / "weights.safetensors").read_bytes() == b"a" * 35


def test_bytes_with_another_hash_are_deleted_and_fetched_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, machine = Store(), downlink(tmp_path)
    made = store.publish(1, b"a" * 35)
    store.files[1] = made, b"b" * 35
    exchange(machine, store, 0.0)
    exchange(machine, store, 1.0)
    assert machine.newest is None
    assert not list(tmp_path.iterdir())
    assert caplog.text.count("version 1 arrived with another hash than its manifest's") == 1
    store.publish(1, b"a" * 35)
    exchange(machine, store, 2.0)
    assert machine.newest == made


def test_a_version_for_other_rows_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, machine = Store(), downlink(tmp_path)
    store.publish(1, b"a", schema="f" * 32)
    exchange(machine, store, 0.0)
    assert (machine.newest, store.parts) == (None, 0)
    assert f"version 1 is for rows of schema ffffffff, allowed {SCHEMA.digest[:8]}, this cell's" in caplog.text


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (WeightsPart(2, 0, 35), b"a" * 10),
        (WeightsPart(1, 5, 35), b"a" * 10),
        (WeightsPart(1, 0, 36), b"a" * 10),
        (WeightsPart(1, 0, 35), b"a" * 36),
        (WeightsPart(1, 0, 35), b""),
    ],
)
def test_a_part_that_was_not_asked_for_is_dropped(tmp_path: Path, message: WeightsPart, payload: bytes) -> None:
    store, machine = Store(), downlink(tmp_path)
    made = store.publish(1, b"a" * 35)
    exchange(machine, store, 0.0, times=1)
    machine.sent(0.0)
    machine.receive(message, memoryview(payload), 0.0)
    assert not (tmp_path / "00000001.part/weights.safetensors").exists()
    exchange(machine, store, 1.0)
    assert machine.newest == made


def test_a_version_of_nothing_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, machine = Store(), downlink(tmp_path)
    store.publish(1, b"")
    exchange(machine, store, 0.0)
    assert "version 1 of 0 bytes, allowed 1 or more of both" in caplog.text


def test_an_unreadable_manifest_and_a_refusal_are_told_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    machine = downlink(tmp_path)
    machine.sent(0.0)
    machine.receive(WeightsOffer(b"{"), None, 0.0)
    assert machine.next(0.9) is None
    machine.sent(1.0)
    machine.receive(Refused("", "run", "no such run"), None, 1.0)
    assert machine.next(2.0) == (WeightsQuery("run", 0), None)
    assert "a manifest of 1 bytes cannot be read" in caplog.text
    assert "weights were refused: no such run" in caplog.text


def test_a_full_disk_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, machine = Store(), downlink(tmp_path)
    made = store.publish(1, b"a" * 35)
    (tmp_path / "00000001.part").write_text("in the way, as no space is")
    exchange(machine, store, 0.0)
    assert "weights cannot be stored" in caplog.text
    (tmp_path / "00000001.part").unlink()
    exchange(machine, store, 1.0)
    assert machine.newest == made


def test_only_the_newest_versions_are_kept(tmp_path: Path) -> None:
    store, machine = Store(), downlink(tmp_path)
    for number in range(1, 6):
        store.publish(number, b"%d" % number)
        exchange(machine, store, float(number))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000004", "00000005"]


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.lists(st.integers(1, 6), max_size=6))
def test_any_file_arrives_whole_whenever_the_process_dies(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, lives: list[int]
) -> None:
    root, store = tmp_path_factory.mktemp("weights"), Store()
    store.publish(1, data)
    for messages in lives:
        exchange(downlink(root), store, 0.0, times=messages)
    machine = downlink(root)
    exchange(machine, store, 0.0)
    assert machine.folder is not None
    assert (machine.folder / "weights.safetensors").read_bytes() == data


def test_parts_are_asked_for_ahead_as_far_as_window_and_credit_allow(tmp_path: Path) -> None:
    store, machine = Store(), downlink(tmp_path)
    store.publish(1, bytes(range(100)))
    machine.part_bytes, machine.window_bytes, machine.credit_bytes = 10, 35.0, math.inf
    exchange(machine, store, 0.0, times=1)  # the offer

    def asked(now_s: float) -> list[int]:
        found = []
        while machine.fetching and (out := machine.next(now_s)) is not None:
            assert isinstance(out[0], WeightsRange)
            found.append(out[0].offset)
            machine.sent(now_s)
        return found

    assert asked(1.0) == [0, 10, 20]  # a fourth would be beyond the window
    machine.receive(WeightsPart(1, 0, 100), memoryview(bytes(range(10))), 1.1)
    assert asked(1.1) == [30]
    machine.receive(WeightsPart(1, 10, 100), memoryview(bytes(range(10, 20))), 1.2)
    machine.credit_bytes = 9
    assert asked(1.2) == []
    assert asked(1.2 + machine._config.answer_s) == [20]  # nothing came: on from what is here
    machine.credit_bytes = math.inf
    assert asked(7.0) == [30, 40]
    for offset in range(20, 100, 10):
        machine.receive(WeightsPart(1, offset, 100), memoryview(bytes(range(offset, offset + 10))), 7.0)
        asked(7.0)
    assert machine.newest is not None
    assert machine.newest.number == 1


def test_a_version_that_acts_by_another_box_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, machine = Store(), downlink(tmp_path)
    wider = box("command", [("dx", "m", -1, 1), ("dy", "m", -2, 1)])
    store.publish(1, b"a", policy=PolicySpec(kind="mlp", action=wider, settings={}))
    exchange(machine, store, 0.0)
    assert (machine.newest, store.parts) == (None, 0)
    assert "version 1 acts by dx -1 … 1, dy -2 … 1, allowed tip.delta.x -1 … 1, tip.delta.y -1 … 1, this" in caplog.text


class PatchStore(Store):
    """Also answers who has nothing: with the newest that stands alone."""

    def answer(self, message: Message) -> tuple[Message, memoryview | None]:
        if isinstance(message, WeightsQuery) and message.have == 0:
            anchors = [n for n, (made, _) in self.files.items() if made.anchor]
            return WeightsOffer(msgspec.json.encode(self.files[max(anchors)][0]) if anchors else b""), None
        return super().answer(message)


def test_a_version_on_a_base_that_is_here_is_taken(tmp_path: Path) -> None:
    store, machine = PatchStore(), downlink(tmp_path)
    store.publish(1, b"a" * 35)
    exchange(machine, store, 0.0)
    made = store.publish(2, b"b" * 35, anchor=False, parent=1)
    exchange(machine, store, 1.0)
    assert machine.newest == made


def test_a_version_on_a_base_that_is_not_here_is_refused_and_the_newest_anchor_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, machine = PatchStore(), downlink(tmp_path)
    store.publish(1, b"a" * 35)
    exchange(machine, store, 0.0)
    anchor = store.publish(5, b"c" * 35)
    store.publish(7, b"b" * 35, anchor=False, parent=6)
    store.parts = 0
    exchange(machine, store, 1.0)
    assert store.parts == 0
    assert (
        "version 7 builds on 6, allowed on one that is here (1); the newest that stands alone is asked" in caplog.text
    )
    assert machine.next(2.0) == (WeightsQuery("run", 0), None)
    exchange(machine, store, 2.0)
    assert machine.newest == anchor


def test_a_base_whose_file_is_damaged_is_no_base(tmp_path: Path) -> None:
    store, machine = PatchStore(), downlink(tmp_path)
    first = store.publish(1, b"a" * 35)
    exchange(machine, store, 0.0)
    (tmp_path / "00000001/weights.safetensors").write_bytes(b"x" * 35)
    store.publish(2, b"b" * 35, anchor=False, parent=1)
    exchange(machine, store, 1.0)
    assert machine.newest == first


def test_an_older_anchor_never_replaces_what_is_newer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, machine = PatchStore(), downlink(tmp_path)
    store.publish(1, b"a" * 35)
    exchange(machine, store, 0.0)
    newer = store.publish(2, b"b" * 35, anchor=False, parent=1)
    exchange(machine, store, 1.0)
    store.publish(9, b"c" * 35, anchor=False, parent=8)
    for at_s in range(2, 12):
        exchange(machine, store, float(at_s))
    assert machine.newest == newer
    assert caplog.text.count("version 9 builds on 8") == 1  # once, however often it is offered
