import io
import json
import os
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cloud.live_door import as_tree
from cloud.main import main
from cloud.run import RunFolder
from cloud.watch import half_blocks, screen, shown_cells
from tests.cloud.test_live_door import live
from user_rl.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    root = tmp_path / "peg"
    (root / "live").mkdir(parents=True)
    (root / "config.json").write_text("{}")
    for cell, cameras in (("arm", ["front", "gone"]), ("other", [])):
        (root / "live" / f"{cell}.json").write_text(json.dumps(as_tree(live(cell=cell), cameras)))
    Image.new("RGB", (160, 120), (200, 40, 40)).save(root / "live" / "arm-front.jpg")
    return RunFolder(root)


def text_of(folder: RunFolder, cell: str | None = None, colors: str | None = "truecolor") -> str:
    file = io.StringIO()
    console = Console(width=110, record=True, color_system=colors, force_terminal=True, file=file)  # type: ignore[arg-type]
    console.print(screen(folder, cell, console))
    return console.export_text()


def test_the_screen_says_how_each_cell_is(folder: RunFolder) -> None:
    (folder.root / "telemetry").mkdir()
    (folder.root / "telemetry" / "arm.jsonl").write_text('{"timings": {}}\n{"timings": {"late": {"p99_ms": 1.25}}}\n')
    text = text_of(folder)
    for words in ("arm  running", "other  running", "80.0 ms", "2.0 ms", "10.0 Hz", "5 rows", "1.25 ms", "17"):
        assert words in text, words
    assert "▀" * 32 in text
    assert "▀" * 33 not in text


def test_one_cell_alone_has_larger_pictures(folder: RunFolder) -> None:
    text = text_of(folder, "arm")
    assert "▀" * 64 in text
    assert "other" not in text


def test_a_terminal_without_colours_names_the_pictures(folder: RunFolder) -> None:
    text = text_of(folder, "arm", None)
    assert "▀" not in text
    assert "pictures: front, gone (this terminal has too few colours)" in text


def test_silence_is_shown(folder: RunFolder) -> None:
    os.utime(folder.root / "live" / "arm.json", (0, 0))
    assert "nothing for" in text_of(folder, "arm")
    assert shown_cells(folder, "arm", wall_s=lambda: 7.0)[0]["age_s"] == 7.0


def test_a_run_that_shows_nothing_yet_says_so_and_a_cell_that_is_not_there_is_named(tmp_path: Path) -> None:
    empty = RunFolder(tmp_path / "peg")
    assert "no robot of peg has shown anything yet" in text_of(empty)
    with pytest.raises(ConfigError, match="cell arm shows nothing in peg, allowed none yet"):
        shown_cells(empty, "arm")


def test_two_rows_of_pixels_are_one_line() -> None:
    text = half_blocks([[(1, 2, 3), (4, 5, 6)], [(7, 8, 9), (0, 0, 0)]])
    assert text.plain == "▀▀"
    assert str(text.spans[0].style) == "#010203 on #070809"


def test_the_command_prints_json_for_programs(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", "peg", "--runs", str(folder.root.parent), "--json"]) == 0
    assert [shown["cell"] for shown in json.loads(capsys.readouterr().out)] == ["arm", "other"]
