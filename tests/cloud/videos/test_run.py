"""cloud.videos: episodes of a real log become videos that are read back, or one line says why not."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.main import main
from cloud.run import RunFolder, write_json
from cloud.videos.__main__ import main as write_automatically
from cloud.videos.episode import name_of, named, newest, rows_of
from cloud.videos.picture import POLICY, TELEOP
from cloud.videos.run import Wanted, prune, write_automatic, write_recorded, write_videos
from tests.cloud.videos.filmed import (
    BLIND,
    BOOT_A,
    BOOT_B,
    GREEN,
    RED,
    SCHEMA,
    decoded,
    episode,
    make_run,
    stream,
    write,
)
from user_rl.errors import ConfigError
from user_rl.log import Reader
from user_rl.rows import Klass
from user_rl.specs import Array

SIMULATED: dict[str, Any] = {"robots": {"simulated": True}, "robot": {"rate_hz": 12.5}}


def near(picture: Array, row: int, column: int, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(picture[row, column].astype(int) - colour).max() < 12)


def test_a_video_has_a_frame_for_each_row_its_cameras_colours_and_who_acted(tmp_path: Path) -> None:
    folder = make_run(tmp_path, episode(0, 0, length=6, helped=2), **SIMULATED)
    [video] = write_videos(folder, Wanted())
    assert video.path == str(folder.videos / "arm-aaaaaaaa-000000.mp4")
    pictures, rate_hz = decoded(video.path)
    assert (len(pictures), rate_hz) == (7, 12.5) == (video.frames, video.rate_hz)
    assert {p.shape for p in pictures} == {(pictures[0].shape[0], 48 * 8 + 32 * 8 + 2, 3)}
    for picture in pictures:
        assert near(picture, 200, 100, RED)
        assert near(picture, 200, 500, GREEN)
    bars = [TELEOP if near(p, 258, 300, TELEOP) else POLICY for p in pictures if not near(p, 258, 300, RED)]
    assert bars == [POLICY] * 4 + [TELEOP] * 3  # the closing frame keeps the colour of the last step
    assert str(video) == "7 frames, 0.6 s, return 1.00, success"


def test_only_the_camera_that_is_named_is_shown(tmp_path: Path) -> None:
    folder = make_run(tmp_path, episode(0, 0))
    [video] = write_videos(folder, Wanted(cameras=["wrist"], to=tmp_path / "out"))
    picture = decoded(tmp_path / "out" / "arm-aaaaaaaa-000000.mp4")[0][0]
    assert picture.shape[1] == 32 * 12
    assert near(picture, 200, 200, GREEN)
    assert video.episode == f"arm/{BOOT_A}/0"


def test_a_real_cells_rate_is_the_fleets_or_else_that_of_the_stamps(tmp_path: Path) -> None:
    folder = make_run(tmp_path, episode(0, 0))
    assert [v.rate_hz for v in write_videos(folder, Wanted())] == [20.0]
    write_json(folder.status, {"cells": {"arm": {"rate_hz": 19.0}}})
    assert [v.rate_hz for v in write_videos(folder, Wanted())] == [19.0]


def test_the_last_episodes_are_those_that_began_last_whatever_their_stream(tmp_path: Path) -> None:
    folder = make_run(tmp_path, episode(0, 0, began_s=10), episode(1, 7, began_s=30), episode(2, 14, began_s=60))
    write(folder, episode(0, 0, began_s=40), episode(1, 7, began_s=70, closed=False), boot=BOOT_B)
    with Reader(folder.log) as reader:
        order = [f"arm/{BOOT_A}/0", f"arm/{BOOT_A}/1", f"arm/{BOOT_B}/0", f"arm/{BOOT_A}/2"]
        assert [name_of(e) for e in newest(reader, 9)] == order
        assert [name_of(e) for e in newest(reader, 2)] == order[-2:]


def test_an_episode_is_named_by_cell_boot_or_its_beginning_and_number(tmp_path: Path) -> None:
    folder = make_run(tmp_path, episode(0, 0), episode(11, 7))
    write(folder, episode(0, 0), boot=BOOT_B)
    with Reader(folder.log) as reader:
        assert name_of(named(reader, "arm/aa/0")) == f"arm/{BOOT_A}/0"
        assert name_of(named(reader, f"arm/{BOOT_B}/0")) == f"arm/{BOOT_B}/0"
        assert name_of(named(reader, "arm/a/11")) == f"arm/{BOOT_A}/11"
        with pytest.raises(
            ConfigError, match=rf"^--episode arm/a/0: arm/{BOOT_A}/0, arm/{BOOT_B}/0 begin so; give more"
        ):
            named(reader, "arm/a/0")
        for wrong in ("arm/aa/1", "ar/aa/0", "arm", "arm/aa", ""):
            with pytest.raises(
                ConfigError, match=rf"^--episode {wrong}: no such episode, allowed CELL/BOOT/EPISODE, the"
            ):
                named(reader, wrong)


def test_rows_come_in_order_and_end_with_their_episode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.videos.episode.READ_BYTES", 3 * SCHEMA.row_bytes)
    folder = make_run(tmp_path, episode(0, 0), episode(1, 7, closed=False), episode(2, 13))
    with Reader(folder.log) as reader:
        for found in reader.episodes():
            rows = np.concatenate(list(rows_of(reader, SCHEMA, found)))
            assert set(rows["episode"]) == {found.episode}
            assert rows["step"].tolist() == [*range(found.first_step, found.first_step + found.length + 1)]
        assert stream() in reader.streams()


def test_a_run_without_cameras_is_told_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, episode(0, 0, schema=BLIND), schema=BLIND)
    assert main(["videos", "r", "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "user-rl: run r: recorded no camera, a video needs one; start a new run with cameras=two_sim, or with the "
        "robot's own cameras\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--camera", "side"], "--camera side: no such camera, allowed front, wrist; choose one of these\n"),
        (["--last", "0"], "--last 0, allowed 1 or more; it counts episodes\n"),
        (["--episode", "arm/a/5"], f"--episode arm/a/5: no such episode, allowed CELL/BOOT/EPISODE, the newest are "
         f"arm/{BOOT_A}/0; choose one\n"),
    ],
)  # fmt: skip
def test_a_wrong_choice_is_one_line(
    args: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path, episode(0, 0))
    assert main(["videos", "r", "--runs", str(tmp_path), *args]) == 1
    assert capsys.readouterr().err == f"user-rl: {said}"
    assert not folder.videos.exists()


@pytest.mark.parametrize("rows", [[], [episode(0, 0, closed=False)]])
def test_a_run_without_a_whole_episode_is_to_be_waited_for(
    rows: list[Array], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, *rows)
    assert main(["videos", "r", "--runs", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("user-rl: run r: no ")
    assert said.endswith(" yet; wait for its first episode\n")


def test_the_command_prints_what_it_wrote_for_people_and_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, episode(0, 0, success=False), episode(1, 7))
    assert main(["videos", "r", "--runs", str(tmp_path), "--last", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("arm-aaaaaaaa-000000.mp4  7 frames, 0.3 s, return 0.00, no success")
    assert second.endswith("arm-aaaaaaaa-000001.mp4  7 frames, 0.3 s, return 1.00, success")
    args = ["--episode", "arm/aaaa/1", "arm/aaaa/0", "--json", "--to", str(tmp_path / "out")]
    assert main(["videos", "r", "--runs", str(tmp_path), *args]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(v["path"]).name for v in told] == ["arm-aaaaaaaa-000001.mp4", "arm-aaaaaaaa-000000.mp4"]
    assert (told[0]["frames"], told[0]["success"]) == (7, True)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, episode(0, 0))
    (tmp_path / "file").write_bytes(b"")
    to = tmp_path / "file" / "out"
    assert main(["videos", "r", "--runs", str(tmp_path), "--to", str(to)]) == 1
    assert capsys.readouterr().err == (
        f"user-rl: {to}/arm-aaaaaaaa-000000.mp4 cannot be written: Not a directory; free space there, or choose "
        "another folder\n"
    )


def test_an_automatic_video_is_of_the_policy_and_only_the_newest_are_kept(tmp_path: Path) -> None:
    demonstration = episode(9, 0, klass=Klass.DEMONSTRATION, began_s=1000.0)
    folder = make_run(tmp_path, demonstration)
    assert write_automatic(folder, keep=2) is None
    list(write_videos(folder, Wanted()))  # asked for by a person
    write(folder, *(episode(n, 7 + 7 * n, began_s=n) for n in range(3)))
    (folder.videos / ".auto-killed.mp4.part").write_bytes(b"half")
    for number in range(3):
        (folder.videos / f"auto-old-{number}.mp4").write_bytes(b"")
        os.utime(folder.videos / f"auto-old-{number}.mp4", (number, number))
    video = write_automatic(folder, keep=2)
    assert video is not None
    assert video.episode == f"arm/{BOOT_A}/2"
    assert sorted(p.name for p in folder.videos.iterdir()) == [
        "arm-aaaaaaaa-000009.mp4", "auto-arm-aaaaaaaa-000002.mp4", "auto-old-2.mp4",
    ]  # fmt: skip


def test_pruning_where_there_is_little_drops_nothing(tmp_path: Path) -> None:
    (tmp_path / "auto-1.mp4").write_bytes(b"")
    prune(tmp_path, 2)
    prune(tmp_path / "nothing", 2)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_automatic_process_ends_with_a_line_where_it_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[str, int]] = []
    monkeypatch.setattr("os.nice", lambda n: seen.append(("nice", n)))
    monkeypatch.setattr("signal.alarm", lambda s: seen.append(("alarm", s)))
    assert write_automatically(["--run", str(tmp_path / "r"), "--keep", "2"]) == 1
    assert seen == [("nice", 19), ("alarm", 600)]
    assert "no experience log" in caplog.text


def test_recorded_episodes_become_videos_in_their_order(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "r")
    write(folder, episode(0, 0), episode(1, 7, success=False), episode(2, 14, closed=False))
    found = write_recorded(folder.log, folder.videos, prefix="evaluation", rate_hz=10.0)
    assert [(Path(v.path).name, v.rate_hz, v.success) for v in found] == [
        ("evaluation-000.mp4", 10.0, True), ("evaluation-001.mp4", 10.0, False),
    ]  # fmt: skip
