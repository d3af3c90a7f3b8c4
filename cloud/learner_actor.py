"""The learner's Ray actor: nice, one torch thread unless configured, with the gateways to tell its permit to."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from cloud.config import LaunchConfig, algorithm_config
from cloud.learner import Learner
from cloud.run import RunFolder
from user_rl.clock import SystemClock


class LearnerActor:
    """The learner in its process."""

    def __init__(self, root: str, config: LaunchConfig, gateways: list[str]) -> None:
        """`gateways`: their actors' names."""
        import torch

        os.nice(10)
        torch.set_num_threads(config.learner.threads)
        folder = RunFolder(Path(root))
        self._learner = Learner(
            folder.root, config.learner, algorithm_config(config.algorithm), config.replay, seed=config.seed,
            demonstrations=config.demonstrations.count, clock=SystemClock(), permit=_teller(gateways),
        )  # fmt: skip

    def run(self) -> None:
        """Learns until it is done or stopped."""
        self._learner.run()

    def stop(self) -> None:
        """Ends `run` after a checkpoint."""
        self._learner.stop()

    def status(self) -> dict[str, Any]:
        """Where learning stands, and this process."""
        return {"learner_pid": os.getpid(), **self._learner.status()}


def _teller(names: list[str]) -> Callable[[int | None], object]:
    gateways = [ray.get_actor(name) for name in names]
    return lambda rows: [gateway.set_permit.remote(rows) for gateway in gateways]
