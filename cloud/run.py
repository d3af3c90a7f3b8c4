"""A run: one experiment's folder. Everything that a run is lies in it; whoever holds its lock drives it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from user_rl.config import Tree
from user_rl.errors import ConfigError
from user_rl.files import write_atomically

ALIKE = "sim"  # what cells are called that do not differ


@dataclass(frozen=True)
class RunFolder:
    """The names inside a run's folder."""

    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def shards(self) -> Path:
        """Which shard has what, of a run that has several; see cloud.shards."""
        return self.root / "shards.json"

    @property
    def order(self) -> Path:
        """In which order the learner took in the commits of several logs."""
        return self.root / "order"

    def log_of(self, shard: int) -> Path:
        """The log of a shard; the first one's is `log`."""
        return self.root / f"log-{shard}" if shard else self.log

    def logs(self) -> dict[int, Path]:
        """Every log that there is by now, by its shard's number."""
        numbers = [0, *sorted(int(p.name[4:]) for p in self.root.glob("log-*") if p.name[4:].isdigit())]
        return {n: self.log_of(n) for n in numbers if (self.log_of(n) / "log.json").is_file()}

    @property
    def weights(self) -> Path:
        return self.root / "weights"

    @property
    def baseline(self) -> Path:
        return self.root / "baseline"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def leases(self) -> Path:
        return self.root / "leases.json"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @property
    def curve(self) -> Path:
        return self.root / "learning_curve.png"

    @property
    def videos(self) -> Path:
        return self.root / "videos"

    @property
    def horizons(self) -> Path:
        """Which commit of the log each draw saw."""
        return self.root / "horizons"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    def edge(self, cell: str) -> Path:
        """The home of a simulated cell's daemon."""
        return self.root / "edges" / cell

    def process_log(self, name: str) -> Path:
        """Where a process writes what it has to say."""
        path = self.root / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def edge_name(folder: RunFolder, cell: str, number: int) -> str:
    """What the fleet calls a run's simulated cell: the number-th that is configured as `cell`."""
    return f"{folder.name[:40]}-{cell}{number}" if cell == ALIKE else f"{folder.name[:40]}-{cell}-{number}"


def find_run(runs: Path, name: str) -> RunFolder:
    """The existing run of that name, or at that path; raises ConfigError naming the ones that exist."""
    for root in (runs / name, Path(name)):
        if (root / "config.json").is_file():
            return RunFolder(root.resolve())
    known = ", ".join(folder.name for folder in list_runs(runs)) or "none yet"
    raise ConfigError(f"run {name}: not found in {runs.resolve()}, allowed: {known}; start one with user-rl launch")


def list_runs(runs: Path) -> list[RunFolder]:
    """Every run under `runs`, oldest first."""
    return [RunFolder(f.parent) for f in sorted(runs.glob("*/config.json"), key=lambda f: f.stat().st_mtime)]


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`, empty if there is no file yet."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """`tree` as readable JSON, whole or not at all."""
    write_atomically(path, (json.dumps(tree, indent=2) + "\n").encode())


def keep_config(folder: RunFolder, tree: Tree) -> None:
    """Writes the run's configuration, which `resume` reads."""
    write_json(folder.config, tree)


def known_rate_hz(folder: RunFolder, stream: str) -> float | None:
    """The control rate of a stream's cell as the run knows it; None: let the stamps say, true in real time alone."""
    cell = read_json(folder.status).get("cells", {}).get(stream.split("/")[0], {})
    tree = read_json(folder.config).get("tree", {})
    simulated = tree.get("robot", {}).get("rate_hz") if tree.get("robots", {}).get("simulated") else None
    return cell.get("rate_hz") or simulated
