"""cloud.filming: a real child now and then, one at a time, never in the launcher's way."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloud.filming import Filming, VideosConfig, missing
from cloud.run import RunFolder
from cloud.schema_file import keep_schema
from tests.cloud.videos.filmed import BLIND, SCHEMA, episode, make_run


def until(condition: Callable[[], object], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within 60 s")


def films(folder: RunFolder) -> list[Path]:
    return sorted(folder.videos.glob("auto-*.mp4"))


def started(filming: Filming) -> bool:
    return filming._child is not None


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = make_run(tmp_path, episode(0, 0))
    keep_schema(run.root, SCHEMA)
    return run


@pytest.mark.slow
def test_a_round_of_episodes_leaves_a_video_and_the_launcher_never_waits(folder: RunFolder) -> None:
    filming = Filming(folder, VideosConfig(every_episodes=10, keep=3))
    for episodes in (0, 5, 9):
        filming.tick(episodes)
        assert not started(filming)
    filming.tick(10)
    assert started(filming)
    child = filming._child
    filming.tick(25)
    assert filming._child is child, "one at a time"
    until(lambda: child is not None and child.poll() is not None, "the end of the video's process")
    assert [p.name for p in films(folder)] == ["auto-arm-aaaaaaaa-000000.mp4"]
    filming.tick(25)
    assert started(filming), "the next round is due"
    filming.close()
    filming.close()
    assert not started(filming)
    assert not list(folder.videos.glob("*.part"))


@pytest.mark.slow
def test_what_goes_wrong_in_a_video_is_one_warning(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    (folder.log / "log.json").unlink()
    filming = Filming(folder, VideosConfig(every_episodes=1))
    filming.tick(0)
    filming.tick(1)
    child = filming._child
    until(lambda: child is not None and child.poll() is not None, "the end of the video's process")
    filming.tick(1)
    filming.tick(1)
    assert [r.getMessage() for r in caplog.records] == [
        f"an episode video ended with 1; see {folder.process_log('videos')}"
    ]


def test_a_run_that_goes_on_does_not_begin_with_a_video(folder: RunFolder) -> None:
    filming = Filming(folder, VideosConfig(every_episodes=10))
    filming.tick(57)
    filming.tick(59)
    assert not started(filming)


def test_a_run_without_cameras_or_with_zero_is_never_filmed(folder: RunFolder, tmp_path: Path) -> None:
    off = Filming(folder, VideosConfig(every_episodes=0))
    keep_schema(tmp_path, BLIND)
    blind = Filming(RunFolder(tmp_path), VideosConfig(every_episodes=1))
    unknown = Filming(RunFolder(tmp_path / "new"), VideosConfig(every_episodes=1))
    for filming in (off, blind, unknown):
        filming.tick(0)
        filming.tick(100)
        assert not started(filming)


def test_without_the_extra_one_warning_names_it(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert missing() == ""
    monkeypatch.setitem(sys.modules, "av", None)
    filming = Filming(folder, VideosConfig(every_episodes=1))
    for episodes in range(3):
        filming.tick(episodes)
    assert not started(filming)
    assert [r.getMessage() for r in caplog.records] == [
        "no episode videos: av is not installed; pip install 'user-rl[video]'; or set videos.every_episodes=0"
    ]


@pytest.mark.parametrize(("key", "value"), [("every_episodes", -1), ("keep", 0), ("evaluation_episodes", -1)])
def test_a_number_that_makes_no_sense_is_refused(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^{key} = {value}, allowed \d or more; change its value$"):
        VideosConfig(**{key: value})
