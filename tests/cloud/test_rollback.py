"""Going back to a version: its content under the next number, held while the learner goes on, until it is released."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from cloud.gateway import GatewayConfig, WeightsDoor
from cloud.main import main
from cloud.rollback import release, roll_back
from cloud.run import RunFolder, keep_config
from cloud.weight_hold import HOLD, read_hold
from cloud.weights import LOCK, WeightStore
from edge.config import LinkConfig
from tests.cloud.test_weights import POLICY, publish
from user_rl.downlink import Downlink
from user_rl.errors import ConfigError, StorageBusy, StorageCorrupt, StorageError
from user_rl.files import FileLock
from user_rl.trust import new_curve_keys
from user_rl.versions import version_folder
from user_rl.wire import WeightsOffer, WeightsQuery, decode, encode


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    made = WeightStore(tmp_path / "runs/peg/weights", keep=3)
    for value in (1.0, 2.0, 3.0):
        publish(made, value)
    return made


def held(store: WeightStore) -> int | None:
    offered = store.offered()
    return None if offered is None else offered.number


def test_an_older_versions_content_becomes_the_next_number_an_anchor_and_is_held(store: WeightStore) -> None:
    version = roll_back(store, 1)
    assert store.numbers() == [2, 3, 4]  # the old one has grown old: its content lives on
    again, tensors = store.load(4)
    assert (again, version.number, version.parent, version.anchor) == (version, 4, 1, True)
    assert tensors["actor.weight"].tolist() == np.full((3, 2), 1.0).tolist()
    assert (version.updates, version.incarnation, version.policy) == (1, "one", POLICY)
    assert held(store) == 4
    hold = read_hold(store.root)
    assert hold is not None
    assert (hold.number, hold.content) == (4, 1)


def test_the_learner_goes_on_publishing_and_what_is_held_stays_whatever_its_age(store: WeightStore) -> None:
    roll_back(store, 2)
    numbers = [publish(WeightStore(store.root, keep=3), 9.0).number for _ in range(5)]
    assert numbers == [5, 6, 7, 8, 9]
    assert store.numbers() == [4, 7, 8, 9]
    assert held(store) == 4
    newest = release(store)
    assert newest is not None
    assert newest.number == held(store) == 9
    publish(store, 10.0)
    assert store.numbers() == [8, 9, 10]


def test_a_second_rollback_is_a_third_number_and_holds_instead(store: WeightStore) -> None:
    roll_back(store, 2)
    assert roll_back(store, 3).number == held(store) == 5
    assert roll_back(store, 5).parent == 5


def test_a_version_that_is_not_there_is_refused_and_nothing_changes(store: WeightStore) -> None:
    with pytest.raises(StorageError, match=r"version 9 is not in .*, allowed 1 to 3; ask for the newest"):
        roll_back(store, 9)
    assert (store.numbers(), store.highest(), held(store)) == ([1, 2, 3], 3, 3)
    assert read_hold(store.root) is None


def test_a_patch_is_no_content_to_go_back_to(store: WeightStore) -> None:
    manifest = version_folder(store.root, 2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"anchor":true', '"anchor":false'))
    with pytest.raises(StorageError, match=r"version 2 is a patch on 1, allowed one that stands alone; choose another"):
        roll_back(store, 2)
    assert held(store) == 3


def test_damaged_content_is_not_published_again(store: WeightStore) -> None:
    (version_folder(store.root, 2) / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(StorageCorrupt):
        roll_back(store, 2)
    assert held(store) == 3


def test_releasing_what_is_not_held_is_refused(store: WeightStore) -> None:
    with pytest.raises(ConfigError, match="no version is held, allowed release after rollback; nothing was changed"):
        release(store)


def test_a_held_version_that_is_gone_is_said_and_nothing_else_is_offered(store: WeightStore) -> None:
    roll_back(store, 2)
    (version_folder(store.root, 4) / "manifest.json").unlink()
    with pytest.raises(StorageError, match="version 4 is not in"):
        store.offered()


def test_a_hold_that_cannot_be_read_is_no_hold_for_nobody_and_stops_no_learner(store: WeightStore) -> None:
    (store.root / HOLD).write_text("{")
    with pytest.raises(StorageCorrupt, match=r"hold.json cannot be read: .*; run user-rl weights release, or rollback"):
        store.offered()
    assert [publish(store).number for _ in range(3)] == [4, 5, 6]
    assert store.numbers() == [1, 2, 3, 4, 5, 6]  # nothing is dropped while nobody knows what is held
    release(store)
    assert held(store) == 6


def test_two_that_publish_at_once_never_give_one_number_twice(store: WeightStore) -> None:
    numbers: list[int] = []

    def learner() -> None:
        own = WeightStore(store.root, keep=100)
        numbers.extend(publish(own).number for _ in range(10))

    learners = [threading.Thread(target=learner) for _ in range(2)]
    for thread in learners:
        thread.start()
    numbers.append(roll_back(WeightStore(store.root, keep=100), 3).number)
    for thread in learners:
        thread.join()
    assert sorted(numbers) == list(range(4, 25))


def test_whoever_holds_the_store_too_long_is_named(store: WeightStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.weights.LOCK_S", 0.0)
    lock = FileLock(store.root / LOCK)
    with pytest.raises(StorageBusy, match=r"is held by process \d+"):
        publish(store)
    lock.release()
    assert publish(store).number == 4


def test_a_hold_begins_with_its_version_and_not_before(store: WeightStore) -> None:
    """Whoever asks between the two gets the new version anyway: it is the newest."""
    roll_back(store, 1)
    (store.root / HOLD).unlink()
    assert held(store) == 4


def test_an_edge_takes_up_what_is_held_stays_with_it_and_goes_on_after_the_release(
    store: WeightStore, tmp_path: Path
) -> None:
    door = WeightsDoor(
        "peg", store, GatewayConfig(host="127.0.0.1"), keys=new_curve_keys(), allowed=dict, tokens={"arm": 1}.get
    )  # fmt: skip
    edge = Downlink(tmp_path / "edge", "peg", LinkConfig(), schema="ab" * 16, action=POLICY.action)

    def follows(at_s: float) -> int:
        while (out := edge.next(at_s)) is not None:
            edge.sent(at_s)
            frames = door._answer("edge:arm", out[0])
            message, payloads = decode([bytes(frame) for frame in frames])
            edge.receive(message, payloads[0] if payloads else None, at_s)
        assert edge.newest is not None
        return edge.newest.number

    assert follows(1.0) == 3
    roll_back(store, 1)
    assert follows(2.0) == 4
    publish(store, 5.0)
    assert follows(3.0) == 4
    release(store)
    assert follows(4.0) == 5
    door.close()


def test_whoever_has_nothing_is_offered_what_stands_alone(store: WeightStore, tmp_path: Path) -> None:
    door = WeightsDoor(
        "peg", store, GatewayConfig(host="127.0.0.1"), keys=new_curve_keys(), allowed=dict, tokens={"arm": 1}.get
    )
    manifest = version_folder(store.root, 3) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"anchor":true', '"anchor":false'))

    def offered(have: int) -> int | None:
        message, _ = decode([bytes(frame) for frame in door._answer("edge:arm", WeightsQuery("peg", have))])
        assert isinstance(message, WeightsOffer)
        return int(json.loads(message.manifest)["number"]) if message.manifest else None

    assert [offered(have) for have in (0, 1, 2, 3)] == [2, 3, 3, None]
    assert encode(WeightsQuery("peg", 0))
    door.close()


@pytest.fixture
def run(store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    folder = RunFolder(tmp_path / "runs/peg")
    keep_config(folder, {"overrides": [], "tree": {"run": "peg"}})
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_person_goes_back_looks_and_goes_on(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "rollback", "peg", "2"]) == 0
    assert "version 4, the content of 2, is held: user-rl weights release peg" in capsys.readouterr().out
    publish(WeightStore(run.weights), 5.0)
    assert main(["weights", "list", "peg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.search(
        r"4 +2 +anchor +2 +\d+ +[0-9a-f]{16} +held, the content of 2", next(x for x in lines if "held" in x)
    )
    assert not any("offered" in line for line in lines)
    assert main(["weights", "list", "peg", "--json"]) == 0
    versions = json.loads(capsys.readouterr().out)
    assert [(v["number"], v["offered"], v["held"]) for v in versions][-2:] == [(4, True, True), (5, False, False)]
    assert main(["weights", "release", "peg"]) == 0
    assert "nothing is held; version 5 is offered" in capsys.readouterr().out
    assert main(["weights", "list", "peg"]) == 0
    assert re.search(r"5 .* offered", capsys.readouterr().out)


def test_what_cannot_be_is_one_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "release", "peg"]) == 1
    assert "no version is held" in capsys.readouterr().err
    assert main(["weights", "rollback", "peg", "77"]) == 1
    assert "version 77 is not in" in capsys.readouterr().err
