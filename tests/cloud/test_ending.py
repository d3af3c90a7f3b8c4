"""cloud.ending: the evaluation's first episodes as videos, and never at the report's cost."""

from pathlib import Path
from typing import Any

import pytest

from cloud.config import EvaluationConfig, LaunchConfig
from cloud.ending import recording
from cloud.filming import VideosConfig
from cloud.run import RunFolder
from tests.cloud.videos.filmed import decoded, episode, write
from user_rl.errors import UserRlError


def config(**changed: Any) -> LaunchConfig:  # noqa: ANN401  # its keys are of many types
    return LaunchConfig(**{"cameras": {"front": {}}, "robot": {"rate_hz": 5.0}, **changed})


def rows_into(path: Path) -> None:
    """What an evaluation that was asked to record leaves."""
    run = RunFolder(path.parent / ".other")
    write(run, episode(0, 0), episode(1, 7))
    run.log.rename(path)


def test_what_an_evaluation_recorded_becomes_videos_and_the_rows_go(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.videos.mkdir()
    (folder.videos / "evaluation-002.mp4").write_bytes(b"of an earlier evaluation")
    with recording(folder, config()) as kept:
        assert kept["recorded"] == 3
        rows_into(kept["record"])
    assert sorted(p.name for p in folder.videos.glob("*.mp4")) == ["evaluation-000.mp4", "evaluation-001.mp4"]
    assert decoded(folder.videos / "evaluation-000.mp4")[1] == 5.0
    assert not kept["record"].exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"cameras": {}}, {"videos": VideosConfig(evaluation_episodes=0)}, {"evaluation": EvaluationConfig(episodes=0)},
    ],
)  # fmt: skip
def test_without_a_camera_or_a_wish_nothing_is_recorded(changed: dict[str, Any], tmp_path: Path) -> None:
    with recording(RunFolder(tmp_path), config(**changed)) as kept:
        assert kept == {}
    assert not RunFolder(tmp_path).videos.exists()


def test_an_evaluation_that_fails_is_told_and_one_that_cannot_be_filmed_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserRlError, match="the evaluation"), recording(RunFolder(tmp_path), config()):
        raise UserRlError("the evaluation ended with 1")
    assert not caplog.records
    with recording(RunFolder(tmp_path), config()):
        pass  # it recorded nothing
    assert caplog.records[0].getMessage().startswith("no videos of the evaluation: ")
