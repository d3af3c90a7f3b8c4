"""user-rl label, from the command line to what another process reads."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.main import main
from cloud.run import RunFolder, keep_config
from cloud.testing import episode_rows, state_schema
from user_rl.columns import ColumnReader, Columns, Ids
from user_rl.columns.testing import Bounds
from user_rl.log import Log

BOOT = "ab" * 16
STREAM = f"cell-0/{BOOT}/peg-1"
STEPS = np.arange(0, 20, 2)
VALUES = STEPS / 4


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with five episodes of ten rows."""
    found = RunFolder(tmp_path / "runs" / "peg-1")
    keep_config(found, {"overrides": [], "tree": {}})
    schema, rng = state_schema(), np.random.default_rng(0)
    with Log(found.log) as log:
        log.open_stream(STREAM, schema)
        for n in range(5):
            log.append(STREAM, episode_rows(schema, rng, length=9, first_step=10 * n, number=n))
        log.commit()
    return found


def label(folder: RunFolder, *args: str) -> int:
    home = folder.root.parents[1] / "home"
    return main(["label", "peg-1", "--runs", str(folder.root.parent), "--home", str(home), *args])


def label_file(folder: RunFolder, path: Path, version: int = 3, name: str = "reward") -> int:
    return label(folder, "--column", name, "--writer", "classifier", "--version", str(version), "--from", str(path))


def write_csv(path: Path) -> None:
    lines = [f"cell-0/{BOOT},{step},{value}" for step, value in zip(STEPS, VALUES, strict=True)]
    path.write_text("\n".join(["stream,step,value", *lines, ""]))


def write_jsonl(path: Path) -> None:
    rows = [{"stream": STREAM, "step": int(s), "value": v} for s, v in zip(STEPS, VALUES, strict=True)]
    path.write_text("\n\n".join(map(json.dumps, rows)))


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"stream": [STREAM] * 10, "step": STEPS, "value": VALUES}), path)


def write_npz(path: Path) -> None:
    np.savez(path, stream=np.array([STREAM.encode()] * 10), step=STEPS, value=VALUES)


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet, write_npz])
def test_every_kind_of_file_labels_the_same_rows(
    folder: RunFolder, tmp_path: Path, write: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"labels.{write.__name__.removeprefix('write_')}"
    write(path)
    assert label_file(folder, path) == 0
    assert capsys.readouterr().out == "reward@classifier-3: 10 written\n"
    assert label_file(folder, path) == 0
    assert capsys.readouterr().out == "reward@classifier-3: 10 same\n"
    with ColumnReader(folder.root / "columns") as reader:
        values, present = reader.values("reward@classifier-3", STREAM, np.arange(20))
        assert np.flatnonzero(present).tolist() == STEPS.tolist()
        assert values[present].tolist() == VALUES.tolist()


def test_embeddings_and_notes_have_their_own_shapes(folder: RunFolder, tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", stream=[STREAM] * 3, step=[1, 2, 3], value=np.ones((3, 40)))
    assert label_file(folder, tmp_path / "e.npz", name="embedding") == 0
    (tmp_path / "n.csv").write_text(f'stream,episode,value\n{STREAM},2,"slips, then holds"\n')
    assert label_file(folder, tmp_path / "n.csv", name="annotation") == 0
    with ColumnReader(folder.root / "columns") as reader:
        assert reader.column("embedding@classifier-3").shape == (40,)
        assert reader.column("annotation@classifier-3").per == "episode"
        note = reader.values("annotation@classifier-3", STREAM, np.array([2]))[0]
        assert note.tolist() == ["slips, then holds"]


def test_what_was_refused_is_told_row_by_row(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"stream": STREAM, "step": 1, "value": 1.0}))
    label_file(folder, path)
    capsys.readouterr()
    rows: list[dict[str, Any]] = [{"stream": STREAM, "step": s, "value": 2.0} for s in (1, 50, 2)]
    path.write_text("\n".join(map(json.dumps, [*rows, {"stream": "cell-9/b", "step": 0, "value": 2.0}])))
    assert label_file(folder, path) == 1
    text = capsys.readouterr().out
    assert text.startswith("reward@classifier-3: 1 written, 1 conflict, 2 unknown\n")
    assert f"refused {STREAM} 1: conflict" in text
    label(folder, "--column", "reward", "--writer", "classifier", "--version", "3", "--from", str(path), "--json")
    tree = json.loads(capsys.readouterr().out)
    assert tree["refused"] == [
        {"stream": STREAM, "id": 1, "reason": "conflict"},
        {"stream": STREAM, "id": 50, "reason": "unknown"},
        {"stream": "cell-9/b/peg-1", "id": 0, "reason": "unknown"},
    ]
    assert (tree["counts"]["same"], tree["seq"]) == (1, None)


def test_an_episode_is_kept_or_discarded_and_the_newest_word_counts(
    folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "cell-0/abab/2"
    for word in ("--discard", "--discard", "--keep"):
        assert label(folder, "--episode", name, "--writer", "anna", word) == 0
    assert label(folder, "--episode", "cell-0/abab/3", "--writer", "anna", "--discard") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "keep@anna-1: 1 written",
        "keep@anna-1: 1 same",
        "keep@anna-2: 1 written",
        "keep@anna-2: 1 written",
    ]
    ids = Ids((STREAM,), np.zeros(4, int), np.array([1, 2, 3, 4]))
    with ColumnReader(folder.root / "columns") as reader:
        latest = reader.latest("keep", "anna", ids)
        assert latest is not None
        assert latest[0].tolist() == [0, 1, 0, 0]
        assert latest[1].tolist() == [False, True, True, False]
        earlier = reader.latest("keep", "anna", ids, {"keep@anna-1": 1})
        assert earlier is not None
        assert earlier[0].tolist() == [0, 0, 0, 0]
        assert earlier[1].tolist() == [False, True, False, False]
        assert reader.latest("keep", "bert", ids) is None


def test_columns_are_listed_for_people_and_programs(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert label(folder, "--list") == 0
    assert capsys.readouterr().out.startswith("no late columns; write one with user-rl label RUN")
    label(folder, "--episode", "cell-0/abab/2", "--writer", "anna", "--success")
    capsys.readouterr()
    label(folder, "--list")
    assert capsys.readouterr().out.startswith("success@anna-1  1 values, one per episode, u1, commit 1, by ")
    label(folder, "--list", "--json")
    assert [column["values"] for column in json.loads(capsys.readouterr().out)] == [1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x", "a.txt: allowed .csv, .jsonl, .parquet, .npz; convert it to one of these"),
        (
            "a.csv",
            "stream,value\ns,1\n",
            "a.csv: no 'step' in it; allowed rows with stream, step or episode, and value",
        ),
        ("a.csv", "stream,step,value\n", "a.csv: has no rows, allowed one or more"),
        ("a.csv", "stream,step,value\nc/b,x,1\n", "a.csv: invalid literal for int() with base 10: 'x'; allowed rows"),
        ("a.csv", "stream,step,value\nc/b,1\n", "a.csv: a row is too short; allowed rows"),
        ("a.csv", "stream,step,value\nc/b,1,2\nc/b,2,[3]\n", "a.csv: setting an array element with a sequence"),
        ("a.jsonl", '{"stream":', "a.jsonl: Expecting value"),
        ("a.jsonl", "5", "a.jsonl: argument of type 'int' is not"),
        ("a.parquet", "no", "a.parquet: "),
        ("a.npz", "no", "a.npz: "),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert label_file(folder, tmp_path / name) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--column is missing; give --column, --writer, --version and --from, or --episode with --keep"),
        (["--column", "r", "--writer", "c", "--version", "1"], "--from is missing"),
        (["--column", "r", "--writer", "c", "--version", "0", "--from", "x.csv"], "--from x.csv: no such file"),
        (["--episode", "cell-0/abab/2"], "what of it? allowed --keep, --discard, --success, --failure"),
        (["--episode", "cell-0/abab/7", "--keep"], "--episode cell-0/abab/7: no such episode"),
    ],
)
def test_a_command_that_says_too_little_is_one_line(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    assert label(folder, *args) == 1
    assert message in capsys.readouterr().err


def test_steps_are_not_written_where_episodes_belong(
    folder: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label(folder, "--episode", "cell-0/abab/2", "--writer", "classifier", "--version", "3", "--success")
    path = tmp_path / "a.csv"
    path.write_text(f"stream,step,value\n{STREAM},1,1\n")
    assert label_file(folder, path, name="success") == 1
    assert "success@classifier-3 has u1 [] '' per episode, offered was <f4 [] '' per row" in capsys.readouterr().err


@pytest.mark.slow
def test_who_holds_the_columns_is_named(
    folder: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.label_command.WAIT_S", 0.1)
    with Columns(folder.root / "columns", Bounds({})):
        assert label(folder, "--episode", "cell-0/abab/2", "--keep") == 1
    assert "columns is held by process" in capsys.readouterr().err
