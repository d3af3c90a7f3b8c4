"""cloud.tracker: the chosen tracker keeps what it was given; an unknown one is refused."""

import re
from pathlib import Path

import pytest

from cloud.tracker import NoTracker, make_tracker
from user_rl.errors import ConfigError


def test_an_unknown_tracker_names_the_choices(tmp_path: Path) -> None:
    message = "tracker = 'mlflow', allowed none, wandb, tensorboard; choose one of these"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        make_tracker("mlflow", tmp_path, name="r", config={})


def test_none_keeps_nothing(tmp_path: Path) -> None:
    tracker = make_tracker("none", tmp_path, name="r", config={})
    tracker.log({"loss": 1.0}, step=1)
    tracker.close()
    assert isinstance(tracker, NoTracker)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_writes_events_that_can_be_read_back(tmp_path: Path) -> None:
    tracker = make_tracker("tensorboard", tmp_path, name="r", config={"seed": 1})
    for step in range(3):
        tracker.log({"success_rate": step / 2}, step=step)
    tracker.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("success_rate")] == [(0, 0.0), (1, 0.5), (2, 1.0)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_is_offline_unless_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    tracker = make_tracker("wandb", tmp_path, name="run-1", config={"seed": 1})
    tracker.log({"success_rate": 0.5}, step=1)
    tracker.close()
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
