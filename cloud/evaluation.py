"""What is measured after the clock has stopped: fresh deterministic episodes, and behaviour cloning beside them.

The episodes run in a process of the edge's own (`user-rl-edge eval`), with the very code that drives a robot.
"""

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

from cloud.algorithms import make
from cloud.algorithms.bc import BcConfig
from cloud.cells import cell_trees
from cloud.config import LaunchConfig, algorithm_config
from cloud.run import RunFolder, read_json, write_json
from cloud.shards.reader import open_source
from cloud.store.replay import Replay
from cloud.weights import WeightStore
from user_rl.config import Tree
from user_rl.errors import ConfigError, UserRlError
from user_rl.versions import version_folder

TIMEOUT_S = 3600.0


def evaluate(
    weights: Path, cell: Tree, *, episodes: int, seed: int, record: Path | None = None, recorded: int = 0
) -> dict[str, Any]:
    """`success_rate`, `episodes`, `mean_steps`, `mean_return`, `seed` of the version in the folder `weights`.

    The first `recorded` episodes become rows in the new log `record`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        config, result = Path(scratch, "cell.json"), Path(scratch, "result.json")
        write_json(config, cell)
        argv = [sys.executable, "-m", "edge.main", "eval", "--config", str(config), "--weights", str(weights)]
        argv += ["--episodes", str(episodes), "--seed", str(seed), "--json", str(result)]
        if record is not None:
            argv += ["--record", str(record), "--recorded", str(recorded)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        if done.returncode or not result.is_file():
            raise UserRlError(f"the evaluation of {weights} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return read_json(result)


def evaluate_run(folder: RunFolder, *, episodes: int, seed: int) -> dict[str, Any]:
    """The same for a run's newest version and its own cells."""
    newest = WeightStore(folder.weights).newest()
    if newest is None:
        raise ConfigError(f"run {folder.name}: no weights in {folder.weights}, allowed one or more; let it learn first")
    weights, trees = version_folder(folder.weights, newest.number), cell_trees(read_json(folder.config)["tree"])
    return joined({name: evaluate(weights, tree, episodes=episodes, seed=seed) for name, tree in trees.items()})


def joined(results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The results of a run's cells as one: means over them, and `by_cell` where there are several."""
    first, *others = results.values()
    if not others:
        return first
    means = {key: fmean(r[key] for r in results.values()) for key in ("success_rate", "mean_steps", "mean_return")}
    return {**first, **means, "episodes": sum(r["episodes"] for r in results.values()), "by_cell": dict(results)}


def train_baseline(folder: RunFolder, config: LaunchConfig) -> Path | None:
    """Behaviour cloning on the run's demonstrations; the folder of its version, None without demonstrations."""
    recipe = BcConfig(policy=algorithm_config(config.algorithm).policy)
    with closing(open_source(folder)) as reader:
        schema = next(iter(reader.streams().values()))
        only_shown = dataclasses.replace(
            config.replay,
            sampler=None,
            shape={"name": "transition"},
            reward=None,
            reward_required=False,
            pictures=recipe.policy.sees,
        )
        replay = Replay(reader, only_shown, schema, seed=config.seed, demonstration_share=recipe.demonstration_share)
        replay.catch_up()
        if not replay.demonstration_count:
            return None
        algorithm = make(recipe, schema, config.seed)
        algorithm.fit_normaliser(replay.observations())
        for number in range(config.evaluation.baseline_updates):
            algorithm.update(replay.sample(number, recipe.batch_size))
    version = WeightStore(folder.baseline).publish(
        algorithm.policy_tensors(), algorithm.policy_spec(), schema=schema.digest,
        updates=config.evaluation.baseline_updates, incarnation="baseline",
    )  # fmt: skip
    return version_folder(folder.baseline, version.number)
