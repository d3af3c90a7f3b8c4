import json
import re
from pathlib import Path

import numpy as np
import pytest

from cloud.testing import RecordingDisk
from cloud.weights import WeightStore, check_finite
from user_rl.errors import SpecError, StorageCorrupt, StorageError
from user_rl.specs import Array, box
from user_rl.versions import PolicySpec, Version

POLICY = PolicySpec(kind="mlp", action=box("action", [("dx", "m", -1.0, 1.0)]), settings={"hidden": [8]})


def tensors(value: float = 1.0) -> dict[str, Array]:
    return {"actor.weight": np.full((3, 2), value, np.float32), "normaliser.mean": np.zeros(3, np.float32)}


def publish(store: WeightStore, value: float = 1.0) -> Version:
    return store.publish(tensors(value), POLICY, schema="ab" * 16, updates=int(value), incarnation="one")


def test_versions_are_numbered_from_one_and_name_their_parent(tmp_path: Path) -> None:
    store = WeightStore(tmp_path / "weights")
    assert store.newest() is None
    assert store.highest() == 0
    assert [publish(store).number for _ in range(3)] == [1, 2, 3]
    newest = store.newest()
    assert newest is not None
    assert (newest.number, newest.parent, newest.anchor) == (3, 2, True)


def test_what_is_loaded_is_what_was_published(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    version, loaded = WeightStore(tmp_path).load(publish(store, 7.0).number)
    assert version.updates == 7
    assert version.policy == POLICY
    assert all(np.array_equal(loaded[name], value) for name, value in tensors(7.0).items())


def test_old_versions_go_but_a_pinned_one_stays(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, keep=3)
    store.pin([publish(store).number])
    for _ in range(5):
        publish(store)
    assert store.numbers() == [1, 4, 5, 6]
    store.pin([4])
    publish(store)
    assert store.numbers() == [4, 5, 6, 7]


def test_a_number_is_never_given_twice_even_when_every_version_is_gone(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    for _ in range(3):
        publish(store)
    for folder in tmp_path.glob("0*"):
        RecordingDisk(tmp_path).remove(folder)
    assert publish(WeightStore(tmp_path)).number == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    store = WeightStore(tmp_path)
    bad = tensors()
    bad["actor.weight"][1, 1] = value
    message = (
        "weights actor.weight: 1 of 6 elements are not finite, allowed none; nothing was published: "
        "lower the learning rate, or look at the rewards and observations"
    )
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        store.publish(bad, POLICY, schema="ab" * 16, updates=1, incarnation="one")
    assert store.numbers() == []
    check_finite({"counts": np.arange(3)})


def test_a_changed_byte_is_found_before_anyone_acts_on_it(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    publish(store)
    path = tmp_path / "00000001" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StorageCorrupt, match=r"weights\.safetensors: the hash of its \d+ bytes is not the manifest's"):
        store.load(1)


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    publish(store)
    (tmp_path / "00000001" / "manifest.json").write_text(json.dumps({"number": 1}))
    with pytest.raises(StorageCorrupt, match=r"manifest\.json cannot be read: .*; remove the folder"):
        store.newest()


def test_parts_of_a_version_join_to_its_file(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    version = publish(store)
    parts = [store.read(1, offset, 10) for offset in range(0, version.size, 10)]
    assert b"".join(data for data, _ in parts) == (tmp_path / "00000001" / "weights.safetensors").read_bytes()
    assert {total for _, total in parts} == {version.size}
    assert store.read(1, version.size, 10) == (b"", version.size)


def test_a_part_outside_of_the_file_and_a_version_that_is_gone_are_refused(tmp_path: Path) -> None:
    store = WeightStore(tmp_path)
    size = publish(store).size
    message = f"version 1: 10 bytes at {size + 1}, allowed within its {size}; ask anew"
    for offset, length, text in [(size + 1, 10, message), (0, 0, "version 1: 0 bytes at 0, allowed within its")]:
        with pytest.raises(StorageError, match=f"^{re.escape(text)}"):
            store.read(1, offset, length)
    text = f"version 9 is not in {tmp_path}, allowed 1 to 1; ask for the newest"
    with pytest.raises(StorageError, match=f"^{re.escape(text)}$"):
        store.read(9, 0, 1)
    with pytest.raises(StorageError, match=f"^{re.escape(text)}$"):
        store.load(9)


@pytest.mark.slow
def test_whenever_the_power_fails_every_version_that_is_there_is_whole(tmp_path: Path) -> None:
    root = tmp_path / "weights"
    root.mkdir()
    disk = RecordingDisk(root)
    store = WeightStore(root, keep=2, disk=disk)
    published: list[int] = []
    for n in range(4):
        publish(store, float(n))
        published += [n + 1] * (disk.worlds - len(published))
    assert disk.worlds > 60
    for world in range(disk.worlds):
        disk.restore(world, tmp_path / f"world{world}")
        after = WeightStore(tmp_path / f"world{world}")
        done = published[world] - 1  # publications that had returned before this one
        assert after.highest() >= done
        assert done == 0 or after.numbers()[-1] >= done
        for number in after.numbers()[-1:]:
            after.load(number)
        assert publish(after).number > done
