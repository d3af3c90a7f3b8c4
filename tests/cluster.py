"""A Ray cluster of several nodes on this machine, whose GPUs Ray counts and nobody has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster


@contextmanager
def small_cluster(home: Path, **system: Any) -> Iterator[Cluster]:  # noqa: ANN401  # Ray's own settings
    """A head without GPUs; nodes are added by the test. `home`: where Ray keeps its token; nothing is left of it."""
    before = dict(os.environ)
    os.environ |= {"HOME": str(home), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head | ({"_system_config": system} if system else {}))
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        os.environ.clear()
        os.environ |= before
