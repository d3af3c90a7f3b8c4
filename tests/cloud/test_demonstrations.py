"""cloud.demonstrations: successful demonstrations of another log, copied with their names and bytes, once."""

from pathlib import Path

import numpy as np
import pytest

from cloud.demonstrations import copy_demonstrations
from user_rl.errors import ConfigError
from user_rl.log import Log, Reader
from user_rl.rows import Kind, Klass, Schema, make_schema
from user_rl.specs import Array, box

STATE = box("observation.state", [("x", "m", -1, 1)])
SCHEMA: Schema = make_schema({"observation.state": STATE}, STATE)
STREAM = "arm/" + "0" * 32 + "/first"


def episode(number: int, step: int, *, klass: Klass, success: bool, length: int = 4) -> Array:
    rows = SCHEMA.new(length + 1)
    rows["step"] = np.arange(step, step + length + 1)
    rows["episode"], rows["frame_index"], rows["klass"] = number, np.arange(length + 1), klass
    rows["kind"][-1] = Kind.LAST
    rows["next.done"][-2], rows["next.success"][-2] = success, success
    rows["next.truncated"][-2] = not success
    return rows


def write(path: Path, *episodes: Array) -> None:
    log = Log(path)
    log.open_stream(STREAM, SCHEMA)
    for rows in episodes:
        log.append(STREAM, rows)
    log.commit()
    log.close()


def test_only_successful_demonstrations_are_copied_and_the_rest_is_a_gap(tmp_path: Path) -> None:
    write(
        tmp_path / "run" / "log",
        episode(0, 0, klass=Klass.DEMONSTRATION, success=True),
        episode(1, 5, klass=Klass.DEMONSTRATION, success=False),
        episode(2, 10, klass=Klass.ONLINE, success=True),
        episode(3, 15, klass=Klass.DEMONSTRATION, success=True),
    )
    assert copy_demonstrations(tmp_path / "run", tmp_path / "mine") == 2
    with Reader(tmp_path / "mine") as mine:
        rows = np.concatenate([SCHEMA.view(c.data) for c in mine.scan(STREAM)])
        assert rows["step"].tolist() == [*range(5), *range(15, 20)]
        assert [(g.first, g.last) for g in mine.gaps()] == [(5, 14)]
        assert [(e.episode, e.success) for e in mine.episodes()] == [(0, True), (3, True)]


def test_a_second_copy_adds_nothing_and_a_longer_source_adds_the_rest(tmp_path: Path) -> None:
    first = episode(0, 0, klass=Klass.DEMONSTRATION, success=True)
    write(tmp_path / "run" / "log", first)
    copy_demonstrations(tmp_path / "run", tmp_path / "mine")
    copy_demonstrations(tmp_path / "run", tmp_path / "mine")
    write(tmp_path / "run" / "log", episode(1, 5, klass=Klass.DEMONSTRATION, success=True))
    assert copy_demonstrations(tmp_path / "run" / "log", tmp_path / "mine") == 2
    with Reader(tmp_path / "mine") as mine:
        rows = np.concatenate([SCHEMA.view(c.data) for c in mine.scan(STREAM)])
        assert rows["step"].tolist() == list(range(10))


def test_a_path_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"^demonstrations.path = {tmp_path}: no experience log there; give the folder"
    ):
        copy_demonstrations(tmp_path, tmp_path / "mine")


def test_a_log_without_a_successful_demonstration_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "run" / "log", episode(0, 0, klass=Klass.DEMONSTRATION, success=False))
    with pytest.raises(ConfigError, match=r"no successful demonstration there; record some first$"):
        copy_demonstrations(tmp_path / "run", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
