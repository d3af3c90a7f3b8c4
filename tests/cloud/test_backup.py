"""Backup and restore of a run: the whole of it, checked, under its name or another; and the commands."""

import hashlib
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.backup import back_up, size_bytes
from cloud.limiter import LimiterState
from cloud.main import main
from cloud.manifest import RunManifest, RunState, read_manifest
from cloud.restore import restore
from cloud.run import RunFolder, find_run, keep_config, list_runs, read_json, write_json
from cloud.schema_file import keep_schema, kept_schema
from cloud.testing import episode_rows, state_schema
from cloud.weights import WeightStore
from user_rl.columns import ColumnReader, Columns, column_from_name
from user_rl.columns.testing import Bounds
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.log import Log, Reader
from user_rl.log.backup import LEAP
from user_rl.log.lock import read_identity
from user_rl.specs import box
from user_rl.versions import PolicySpec

pytestmark = pytest.mark.slow
SCHEMA = state_schema()
STREAM = "cell-0/b1/peg"
POLICY = PolicySpec(kind="mlp", action=box("action", [("a", "", -1.0, 1.0)]), settings={})


def save(folder: RunFolder, number: int, *, log_seq: int, weights: int) -> None:
    """A checkpoint as the learner's own leaves it."""
    data = bytes(range(256)) * number
    state = RunState(
        updates=100 * number, draws=0, log_seq=log_seq, limiter=LimiterState(base_rows=0.0, base_updates=0.0),
        weight_number=weights, trained_s=1.0, wall_s=2.0, incarnation="one", seed=0, schema=SCHEMA.digest,
    )  # fmt: skip
    path = folder.root / "checkpoints" / f"{number:08d}" / "algorithm.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    manifest = RunManifest(
        format=1, checkpoint=number, sha256=hashlib.sha256(data).hexdigest(), size=len(data), state=state
    )  # fmt: skip
    (folder.root / "manifest.json").write_bytes(msgspec.json.encode(manifest))


def publish(folder: RunFolder, count: int) -> None:
    store = WeightStore(folder.weights, keep=3)
    for n in range(count):
        store.publish({"w": np.full(4, n, "f4")}, POLICY, schema=SCHEMA.digest, updates=n, incarnation="one")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder((tmp_path / "runs" / "peg").resolve())
    keep_config(found, {"overrides": [], "tree": {"run": "peg", "seed": 4}})
    keep_schema(found.root, SCHEMA)
    write_json(found.leases, {"cell-0": 7})
    write_json(found.status, {"phase": "learning", "wall_s": 5.0, "driver_pid": 1, "edge_pids": {"a": 1}})
    found.metrics.write_text('{"updates": 1}\n{"upd')
    with Log(found.log) as log:
        log.open_stream(STREAM, SCHEMA)
        log.append(STREAM, episode_rows(SCHEMA, np.random.default_rng(0), length=30))
        log.commit()
    publish(found, 5)
    save(found, 1, log_seq=0, weights=3)
    save(found, 2, log_seq=1, weights=4)
    return found


def test_a_restored_run_is_the_run_but_for_what_must_not_come_twice(folder: RunFolder, tmp_path: Path) -> None:
    done = back_up(folder, tmp_path / "kept")
    assert (done.run, done.updates, done.weight_versions, done.copied_files) == ("peg", 200, 3, done.files)
    assert done.bytes == done.copied_bytes
    assert size_bytes(folder) > 0
    back = RunFolder(tmp_path / "back" / "peg")
    assert restore(tmp_path / "kept", tmp_path / "back").folder == str(back.root)
    assert read_manifest(back.root) == read_manifest(folder.root)
    for name in ("config.json", "leases.json", "schema.msgpack", "checkpoints/00000002/algorithm.safetensors"):
        assert (back.root / name).read_bytes() == (folder.root / name).read_bytes()
    assert not (back.root / "checkpoints" / "00000001").exists()  # the manifest does not name it
    assert read_json(back.status) == {"phase": "learning", "wall_s": 5.0}
    assert back.metrics.read_text() == '{"updates": 1}\n'  # the last line was being written
    old, new = WeightStore(folder.weights), WeightStore(back.weights)
    assert new.numbers() == old.numbers() == [3, 4, 5]
    assert [new.load(n)[0] for n in (3, 4, 5)] == [old.load(n)[0] for n in (3, 4, 5)]
    assert new.highest() == old.highest() + LEAP
    assert read_identity(back.log).epoch == read_identity(folder.log).epoch + LEAP
    with Reader(folder.log) as ours, Reader(back.log) as theirs:
        assert ours.read(STREAM, 0, 2**30) == theirs.read(STREAM, 0, 2**30)
    assert [run.name for run in list_runs(tmp_path / "back")] == ["peg"]
    assert not list((tmp_path / "back").glob(".*"))


def test_another_name_makes_another_run(folder: RunFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "kept")
    restore(tmp_path / "kept", folder.root.parent, name="second")
    second = find_run(folder.root.parent, "second")
    assert read_json(second.config)["tree"] == {"run": "second", "seed": 4}
    assert not second.leases.exists()
    assert kept_schema(second.root) == SCHEMA
    assert read_identity(second.log).log_id != read_identity(folder.log).log_id


def test_a_run_that_is_there_is_not_overwritten(folder: RunFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "kept")
    with pytest.raises(
        ConfigError, match=r"run peg: exists already in .*/runs, allowed is a free name; choose another"
    ):
        restore(tmp_path / "kept", folder.root.parent)
    for name in ("../peg2", ".peg", "a/b"):
        with pytest.raises(ConfigError, match=r"allowed is one folder's name; choose such a one with --as"):
            restore(tmp_path / "kept", folder.root.parent, name=name)
    with pytest.raises(ConfigError, match=r"no backup is there \(backup\.json is missing\); give the folder of a"):
        restore(tmp_path / "nowhere", folder.root.parent)
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_run_never_replaces_its_backup(folder: RunFolder, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "kept")
    before = (tmp_path / "kept" / "backup.json").read_bytes()
    for name in ("checkpoints/00000002/algorithm.safetensors", "weights/00000004/weights.safetensors"):
        file = folder.root / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(StorageCorrupt, match=rf"{name}: its hash is not .*, which its manifest names; what was"):
            back_up(folder, tmp_path / "kept")
        file.write_bytes(whole)
    (folder.root / "checkpoints/00000002/algorithm.safetensors").unlink()
    with pytest.raises(StorageCorrupt, match=r"algorithm\.safetensors: is missing and manifest\.json names it"):
        back_up(folder, tmp_path / "kept")
    assert (tmp_path / "kept" / "backup.json").read_bytes() == before
    restore(tmp_path / "kept", tmp_path / "back")


def test_late_columns_come_back_and_go_on(folder: RunFolder, tmp_path: Path) -> None:
    rows, column = Bounds({STREAM: 30}), column_from_name("reward@classifier-1")
    with Columns(folder.root / "columns", rows) as columns:
        columns.add(column)
        columns.write(column.identity, STREAM, np.arange(20), np.arange(20) / 2)
        columns.commit()
    back_up(folder, tmp_path / "kept")
    back = RunFolder(Path(restore(tmp_path / "kept", tmp_path / "runs", name="again").folder))
    with ColumnReader(back.root / "columns") as reader:
        assert reader.seqs() == {column.identity: 1}
        values, present = reader.values(column.identity, STREAM, np.arange(31))
        assert np.flatnonzero(present).tolist() == list(range(20))
        assert values[:20].tolist() == (np.arange(20) / 2).tolist()
    with Columns(back.root / "columns", rows) as columns:
        assert columns.write(column.identity, STREAM, np.array([3, 25]), [1.5, 1.0]).tolist() == [1, 0]
        assert columns.commit() == {column.identity: 2}


def test_a_log_that_ends_before_what_the_manifest_counts_on_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    save(folder, 3, log_seq=2, weights=5)
    back_up(folder, tmp_path / "kept")
    with pytest.raises(StorageCorrupt, match=r"ends at commit 1, manifest\.json counts on 2; use another copy"):
        restore(tmp_path / "kept", tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_learner_that_saves_and_prunes_meanwhile_makes_it_read_again(folder: RunFolder, tmp_path: Path) -> None:
    """It prunes what the manifest named, right after the manifest was read and as the weights are copied."""
    calls = [0]

    def tell(_: int) -> None:
        calls[0] += 1
        if calls[0] == 5:  # as its checkpoint is copied
            publish(folder, 4)  # 3 to 6 go
            save(folder, 3, log_seq=1, weights=9)

    back_up(folder, tmp_path / "kept", tell=tell)
    restore(tmp_path / "kept", tmp_path / "back")
    manifest = read_manifest(tmp_path / "back" / "peg")
    assert manifest is not None
    assert (calls[0] > 5, manifest.checkpoint) == (True, 3)
    assert manifest.state.weight_number in WeightStore(tmp_path / "back" / "peg" / "weights").numbers()


def test_the_commands_for_people_and_for_programs(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, kept = str(folder.root.parent), str(tmp_path / "kept")
    assert main(["backup", "peg", "--to", kept, "--runs", runs]) == 0
    said = capsys.readouterr()
    assert f"{kept}: run peg at update 200, " in said.out
    assert f"bring it back with user-rl restore {kept}" in said.out
    assert said.err == ""  # no bar where there is no terminal
    assert main(["backup", "peg", "--to", kept, "--runs", runs, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copied_files"] == 0
    assert main(["restore", kept, "--runs", runs]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["restore", kept, "--runs", runs, "--as", "again", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == "again"
    assert main(["restore", kept, "--runs", str(tmp_path / "back")]) == 0
    assert "go on with user-rl resume peg" in capsys.readouterr().out
