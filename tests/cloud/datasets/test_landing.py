"""cloud.datasets.landing: a log grows by a whole import or not at all, also under kill -9."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cloud.datasets.exporting import Wanted, chosen, export
from cloud.datasets.importing import Choices, import_dataset
from cloud.datasets.landing import landing
from cloud.datasets.lerobot_v3_writer import Form
from cloud.testing import episode_rows
from tests.cloud.datasets.recordings import BLIND, BOOT, STREAM, all_rows, write_log
from user_rl.errors import StorageBusy, StorageError
from user_rl.log import Log, LogConfig, Reader, verify
from user_rl.specs import Array

OTHER = f"arm/{'c' * 32}/r"


def episode(seed: int = 0, *, length: int = 4) -> Array:
    return episode_rows(BLIND, np.random.default_rng(seed), length=length)


def test_what_is_appended_stands_beside_what_was_there(tmp_path: Path) -> None:
    write_log(tmp_path / "log", {STREAM: [episode(0)]}, BLIND)
    with landing(tmp_path / "log") as landed:
        landed.log.open_stream(OTHER, BLIND)
        landed.log.append(OTHER, episode(1))
    assert all_rows(tmp_path / "log", STREAM).tobytes() == episode(0).tobytes()
    assert all_rows(tmp_path / "log", OTHER).tobytes() == episode(1).tobytes()
    assert verify(tmp_path / "log") == []
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


@pytest.mark.slow
def test_a_log_of_many_segments_keeps_them_and_its_name(tmp_path: Path) -> None:
    with Log(tmp_path / "log", LogConfig(segment_bytes=2000)) as log:
        log.open_stream(STREAM, BLIND)
        for number in range(20):
            rows = episode(number)
            rows["step"] += 5 * number
            rows["episode"] = number
            log.append(STREAM, rows)
            log.commit()
        log_id, before = log.log_id, log.episodes()
    sealed = {p.stat().st_ino for p in (tmp_path / "log").glob("*/footer.json")}
    assert sealed
    with landing(tmp_path / "log") as landed:
        landed.log.open_stream(OTHER, BLIND)
        landed.log.append(OTHER, episode(1))
    with Reader(tmp_path / "log") as reader:
        assert reader.log_id == log_id
        assert [e for e in reader.episodes() if e.stream == STREAM] == before
    assert sealed <= {p.stat().st_ino for p in (tmp_path / "log").glob("*/footer.json")}
    assert verify(tmp_path / "log") == []


@pytest.mark.parametrize("is_new", [True, False])
def test_an_import_that_fails_leaves_what_was_there(tmp_path: Path, is_new: bool) -> None:
    if not is_new:
        write_log(tmp_path / "log", {STREAM: [episode(0)]}, BLIND)
    with pytest.raises(StorageError, match=r"^enough$"), landing(tmp_path / "log") as landed:  # noqa: PT012
        landed.log.open_stream(OTHER, BLIND)
        landed.log.append(OTHER, episode(1))
        landed.log.commit()
        raise StorageError("enough")
    assert [p.name for p in tmp_path.iterdir()] == ([] if is_new else ["log"])
    if not is_new:
        with Reader(tmp_path / "log") as reader:
            assert list(reader.streams()) == [STREAM]


def test_a_log_that_somebody_writes_is_refused_with_his_name(tmp_path: Path) -> None:
    with Log(tmp_path / "log") as log:
        log.open_stream(STREAM, BLIND)
        log.append(STREAM, episode())
        log.commit()
        with pytest.raises(StorageBusy, match=f"held by process {os.getpid()}, allowed one"), landing(tmp_path / "log"):
            pass


def test_a_folder_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "letters").touch()
    with pytest.raises(StorageError, match="is a folder without a log"), landing(tmp_path / "log"):
        pass


def test_what_a_killed_import_left_is_removed_and_a_living_one_is_not(tmp_path: Path) -> None:
    (tmp_path / ".log.import-1").mkdir()
    with Log(tmp_path / ".log.import-2"), landing(tmp_path / "log") as landed:
        landed.log.open_stream(OTHER, BLIND)
        landed.log.append(OTHER, episode(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == [".log.import-2", "log"]


def test_there_is_a_whole_log_at_every_moment(tmp_path: Path) -> None:
    write_log(tmp_path / "log", {STREAM: [episode(0)]}, BLIND)
    looks = 0

    def look(*_: object) -> None:
        nonlocal looks
        looks += 1
        assert os.path.exists(f"{tmp_path}/log/log.json")

    try:
        with landing(tmp_path / "log") as landed:
            landed.log.open_stream(OTHER, BLIND)
            landed.log.append(OTHER, episode(1))
            sys.setprofile(look)
    finally:
        sys.setprofile(None)
    assert looks > 100


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [True, False])
def test_kill_9_at_any_moment_leaves_all_of_it_or_nothing(tmp_path: Path, is_new: bool) -> None:
    episodes = [episode(k, length=200) for k in range(6)]
    for number, rows in enumerate(episodes):
        rows["step"] += 201 * number
        rows["episode"] = number
    write_log(tmp_path / "source", {STREAM: episodes}, BLIND)
    with Reader(tmp_path / "source") as reader:
        export(reader, chosen(reader, Wanted()), tmp_path / "set", make_form=lambda fps: Form(fps=fps, robot_type="a"))
    whole, target, outcomes = np.concatenate(episodes).tobytes(), tmp_path / "log", set()
    if not is_new:
        write_log(target, {OTHER: [episode(1)]}, BLIND)
    choose = random.Random(3)
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom cloud.datasets import importing, landing\n"
        "at = int(sys.argv[3])\ncalls = 0\n"
        "def trace(frame, event, arg):\n"
        "    global calls\n"
        "    if 'datasets' in frame.f_code.co_filename or 'user_rl/log' in frame.f_code.co_filename:\n"
        "        calls += 1\n"
        "        if calls == at: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.setprofile(trace)\n"
        "importing.import_dataset(Path(sys.argv[1]), 'lerobot', Path(sys.argv[2]), importing.Choices())\n"
        "sys.setprofile(None)\nprint(calls)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "set")]
    trial = subprocess.run([*command, str(tmp_path / "trial"), "0"], capture_output=True, text=True, check=True)
    calls = int(trial.stdout)
    for _ in range(8):
        done = subprocess.run(
            [*command, str(target), str(choose.randrange(calls // 3, calls))], capture_output=True, check=False
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        streams: set[str] = set()
        if target.exists():
            assert verify(target) == []
            with Reader(target) as reader:
                streams = set(reader.streams())
        outcomes.add(STREAM in streams)
        assert streams - {STREAM} == (set() if is_new else {OTHER})
        if STREAM in streams:
            assert all_rows(target, STREAM).tobytes() == whole
    import_dataset(tmp_path / "set", "lerobot", target, Choices())
    assert all_rows(target, STREAM).tobytes() == whole
    assert [p.name for p in tmp_path.glob(".*import*")] == []
    assert False in outcomes, f"every one of the kills came after {BOOT}'s rename: the test looks at nothing"
