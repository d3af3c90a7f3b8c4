"""Tracker: where metrics go beside `metrics.jsonl`: nowhere, wandb (offline unless logged in), or tensorboard."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from user_rl.config import Tree
from user_rl.errors import ConfigError


class Tracker(Protocol):
    """A place for metrics."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Keeps `metrics` under `step` (updates)."""

    def close(self) -> None:
        """Writes what is left; safe to call twice."""


class NoTracker:
    """Keeps nothing; the run's own metrics.jsonl is there all the same."""

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        return None

    def close(self) -> None:
        return None


class WandbTracker:
    """Weights & Biases: online if the machine is logged in, else offline files under the run's folder."""

    def __init__(self, folder: Path, name: str, config: Tree) -> None:
        import wandb

        online = bool(os.environ.get("WANDB_API_KEY") or _in_netrc())
        settings = wandb.Settings(silent=True, console="off")
        self._run = wandb.init(
            project="user-rl",
            name=name,
            id=name,
            resume="allow",
            dir=str(folder),
            mode="online" if online else "offline",
            config=config,
            settings=settings,
        )

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


class TensorboardTracker:
    """Event files under the run's folder: `tensorboard --logdir RUN/tensorboard`."""

    def __init__(self, folder: Path, name: str, config: Tree) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("run", f"{name}\n\n    {config}")

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        for key, value in metrics.items():
            self._writer.add_scalar(key, value, step)

    def close(self) -> None:
        self._writer.close()


TRACKERS: dict[str, Callable[[Path, str, Tree], Tracker]] = {
    "none": lambda _folder, _name, _config: NoTracker(),
    "wandb": WandbTracker,
    "tensorboard": TensorboardTracker,
}


def check_tracker(kind: str) -> None:
    """Raises ConfigError naming the choices."""
    if kind not in TRACKERS:
        raise ConfigError(f"tracker = {kind!r}, allowed {', '.join(TRACKERS)}; choose one of these")


def make_tracker(kind: str, folder: Path, *, name: str, config: Tree) -> Tracker:
    """The tracker called `kind`; raises ConfigError naming the choices."""
    check_tracker(kind)
    return TRACKERS[kind](folder, name, config)


def _in_netrc() -> bool:
    path = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    return path.is_file() and "api.wandb.ai" in path.read_text()
