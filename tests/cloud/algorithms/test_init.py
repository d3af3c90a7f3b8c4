"""The table of algorithms, and that none knows another."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

from cloud.algorithms import ALGORITHMS, make
from policies.config import PolicyConfig
from user_rl.config import build, defaults
from user_rl.errors import ConfigError
from user_rl.rows import Schema

SHARES = {"sac": 0.0, "rlpd": 0.5, "bc": 1.0}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_is_made_from_its_config_and_states_what_the_loop_reads(name: str, schema: Schema) -> None:
    algorithm_type, config_type = ALGORITHMS[name]
    config = build(config_type, defaults(config_type))
    assert config.policy == PolicyConfig()
    assert config.demonstration_share == SHARES[name]
    assert config.batch_size == 256
    assert config.update_ratio > 0
    assert isinstance(make(config, schema, 0), algorithm_type)  # type: ignore[arg-type]


def test_a_config_of_no_algorithm_is_refused(schema: Schema) -> None:
    @dataclass(frozen=True)
    class Other:
        policy: PolicyConfig
        batch_size: int = 1
        demonstration_share: float = 0.0
        update_ratio: float = 1.0

    with pytest.raises(
        ConfigError, match="algorithm config is a Other, allowed SacConfig, RlpdConfig, BcConfig; build"
    ):
        make(Other(PolicyConfig()), schema, 0)


def test_no_algorithm_imports_another() -> None:
    folder = Path(__file__).parents[3] / "cloud/algorithms"
    for path in folder.glob("[a-z]*.py"):
        imports = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
        assert not [i.module for i in imports if (i.module or "").startswith("cloud.algorithms")], path.name
