"""`user-rl buffer inspect`, `verify` and `compact`, as an operator sees them."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.buffer_compact import named_commits
from cloud.limiter import LimiterState
from cloud.main import main
from cloud.manifest import FORMAT, RunManifest, RunState
from cloud.run import RunFolder
from cloud.testing import episode_rows, state_schema
from user_rl.files import FileLock
from user_rl.log import Log, LogConfig, Reader, verify
from user_rl.log.snapshot import Snapshot
from user_rl.rows import Klass

pytestmark = pytest.mark.slow
SCHEMA, STREAM = state_schema(), "arm/b1/peg"
SMALL = LogConfig(segment_bytes=96 * 1024)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "peg"
    rng = np.random.default_rng(0)
    with Log(folder / "log", SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        for n in range(120):
            klass = Klass.DEMONSTRATION if n < 10 else Klass.ONLINE
            rows = episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n, klass=klass, success=n % 3 == 0)
            rows["is_intervention"] = n == 50
            log.append(STREAM, rows)
            log.commit()
        log.append_gap(STREAM, 1200, 1204)
        log.commit()
        log.pin("checkpoint", log.sealed()[:1])
    (folder / "config.json").write_text("{}")
    return folder


def buffer(run: Path, action: str, *more: str) -> int:
    return main(["buffer", action, "peg", "--runs", str(run.parent), *more])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 8
    file.write_bytes(data)


def test_inspect_says_what_there_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert buffer(run, "inspect", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    (stream,) = tree["streams"]
    assert stream | {"name": STREAM} == stream
    expected = {
        "cursor": 1204, "first_kept": 0, "rows": 1200, "gap_rows": 5, "missing": 0, "episodes": 120, "successes": 40,
        "demonstrations": 10, "interventions": 10,
    }  # fmt: skip
    assert {name: stream[name] for name in expected} == expected
    assert sum(line["rows"] for line in tree["segments"]) == 1200
    assert [line["pins"] for line in tree["segments"]].count(["checkpoint"]) == 1
    assert {line["state"] for line in tree["segments"]} == {"sealed", "written"}
    assert sum(line["chunks"] for line in tree["segments"]) == 120
    assert all((line["age_s"] is None) == (line["state"] == "written") for line in tree["segments"])


def test_inspect_is_a_table_and_a_picture(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = run / "plot" / "log.png"
    assert buffer(run, "inspect", "--plot", str(picture)) == 0
    text = capsys.readouterr().out
    assert "1,200 rows" in text
    assert "pinned by" in text
    assert "checkpoint" in text
    assert STREAM in text
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_sound_log_is_called_sound(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert buffer(run, "verify") == 0
    assert ": sound, " in capsys.readouterr().out
    assert main(["buffer", "verify", str(run / "log")]) == 0


def test_damage_is_named_and_set_aside_when_asked(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sorted(file.parent for file in run.glob("log/online-*/footer.json"))[1]
    flip(folder / "data.mdb")
    assert buffer(run, "verify") == 1
    text = capsys.readouterr().out
    assert f"{folder}/data.mdb: " in text
    assert "1 damaged segments, 0 of them set aside now; set them aside with --quarantine" in text
    assert buffer(run, "verify", "--quarantine", "--json") == 1
    tree = json.loads(capsys.readouterr().out)
    assert tree["quarantined"] == [folder.name]
    assert buffer(run, "verify") == 0
    capsys.readouterr()
    assert buffer(run, "inspect") == 0
    text = capsys.readouterr().out
    assert f"in quarantine: {folder.name}" in text
    assert "gone: 1 segments" in text


def test_nothing_is_set_aside_under_a_writer(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = sorted(file.parent for file in run.glob("log/online-*/footer.json"))[1]
    with Log(run / "log", SMALL):
        flip(folder / "data.mdb")
        assert buffer(run, "verify", "--quarantine") == 1
    assert "is held by process" in capsys.readouterr().err
    assert folder.is_dir()


def test_what_is_still_written_is_given_up_only_when_told_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (active,) = [f for f in run.glob("log/online-*") if not (f / "footer.json").exists()]
    data = (active / "data.mdb").read_bytes()
    (active / "data.mdb").write_bytes(data[: len(data) // 2])
    assert buffer(run, "verify", "--quarantine") == 1
    assert active.is_dir()
    assert "--quarantine --unsealed" in capsys.readouterr().err
    assert buffer(run, "verify", "--quarantine", "--unsealed") == 1
    assert not active.exists()
    assert verify(run / "log") == []
    with Log(run / "log", SMALL) as log:
        assert log.synced(STREAM) < 1204


def test_a_name_that_is_no_log_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["buffer", "inspect", "nowhere", "--runs", str(tmp_path)]) == 1
    assert "nowhere: no run in" in capsys.readouterr().err


def test_compact_makes_few_chunks_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert buffer(run, "compact", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert len(tree["segments"]) == len(list(run.glob("log/*/footer.json")))
    assert all(line["chunks_after"] < line["chunks_before"] for line in tree["segments"])
    assert buffer(run, "compact") == 0
    assert f"0 of {len(tree['segments'])} sealed segments compacted\n" in capsys.readouterr().out
    assert buffer(run, "verify") == 0
    assert buffer(run, "inspect", "--json") == 0
    (stream,) = json.loads(capsys.readouterr().out.partition("\n")[2])["streams"]
    assert (stream["rows"], stream["missing"]) == (1200, 0)


def test_compact_keeps_the_commits_that_draws_saw(run: Path) -> None:
    np.array([5, 9, 0, 9, 23], "<u8").tofile(run / "horizons")
    assert named_commits(RunFolder(run)) == {0, 5, 9, 23}
    assert buffer(run, "compact") == 0
    with Reader(run / "log") as reader:
        found = [(ref.seq, ref.count) for ref in reader.refs(0, 10_000)]
    for seq in (5, 9, 23):
        assert sum(count for at, count in found if at <= seq) == 10 * seq


def test_compact_keeps_the_commits_around_what_draws_could_not_read(run: Path) -> None:
    draws = np.array([[5, 1], [9, 1], [23, 2]], "<u8").tobytes()
    (run / "horizons").write_bytes(b"USER-RL draws 2\n" + draws + b"torn")
    lines = b'{"first":1,"lost":[],"columns":{}}\n{"lost":[[12,14]]}\n{"lost":[[1'
    (run / "horizons.seen").write_bytes(lines)
    assert named_commits(RunFolder(run)) == {5, 9, 23, 11, 14}


def test_compact_keeps_the_commit_of_the_checkpoint_and_the_draws_after_it(run: Path) -> None:
    np.array([5, 9, 23], "<u8").tofile(run / "horizons")
    state = RunState(
        updates=2, draws=2, log_seq=41, limiter=LimiterState(0.0, 0.0), weight_number=1, trained_s=0.0, wall_s=0.0,
        incarnation="i", seed=0, schema="s", snapshot=Snapshot(log_id="l", seq=40, streams={}, segments=[]),
    )  # fmt: skip
    manifest = RunManifest(format=FORMAT, checkpoint=1, sha256="", size=0, state=state)
    (run / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    assert named_commits(RunFolder(run)) == {23, 40, 41}


def test_compact_says_what_is_damaged(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(sorted(run.glob("log/online-*/footer.json"))[1].with_name("data.mdb"))
    assert buffer(run, "compact") == 1
    text = capsys.readouterr().out
    assert "it is left as it is" in text
    assert "chunks became" in text


def test_nothing_is_compacted_in_a_run_that_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Log(run / "log", SMALL):
        assert buffer(run, "compact") == 1
    assert "is held by process" in capsys.readouterr().err
    lock = FileLock(run / "lock")
    assert buffer(run, "compact") == 1
    assert "is held by process" in capsys.readouterr().err
    lock.release()
