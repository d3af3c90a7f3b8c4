"""Algorithms, one file each. Adding one is that file, one line in ALGORITHMS and one test file."""

from collections.abc import Callable
from typing import Any

from cloud.algorithm import Algorithm, AlgorithmConfig
from cloud.algorithms.bc import Bc, BcConfig
from cloud.algorithms.rlpd import Rlpd, RlpdConfig
from cloud.algorithms.sac import Sac, SacConfig
from user_rl.errors import ConfigError
from user_rl.rows import Schema

ALGORITHMS: dict[str, tuple[Callable[[Any, Schema, int], Algorithm], type[AlgorithmConfig]]] = {
    "sac": (Sac, SacConfig),
    "rlpd": (Rlpd, RlpdConfig),
    "bc": (Bc, BcConfig),
}


def make(config: AlgorithmConfig, schema: Schema, seed: int) -> Algorithm:
    """The algorithm that `config`, one of the config dataclasses, belongs to."""
    for make_algorithm, config_type in ALGORITHMS.values():
        if isinstance(config, config_type):
            return make_algorithm(config, schema, seed)
    allowed = ", ".join(config_type.__name__ for _, config_type in ALGORITHMS.values())
    raise ConfigError(f"algorithm config is a {type(config).__name__}, allowed {allowed}; build one of these")
