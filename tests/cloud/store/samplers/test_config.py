"""Samplers by name: trees are strict, and messages say which key."""

import pytest

from cloud.store.samplers import SAMPLERS, make_sampler
from cloud.store.samplers.mixture import Mixture
from cloud.store.shapes import make_shape
from tests.cloud.store.samplers.trees import TREES
from user_rl.config import Tree
from user_rl.errors import ConfigError

UNIFORM: Tree = {"name": "uniform"}


def mixed(*shares: float, sampler: Tree = UNIFORM) -> Tree:
    return {"name": "mixture", "parts": [{"share": share, "sampler": sampler} for share in shares]}


def test_every_sampler_has_a_tree_that_is_tested() -> None:
    assert {tree["name"] for tree in TREES.values()} == SAMPLERS.keys()


def test_a_mixture_holds_what_its_tree_names() -> None:
    made = make_sampler(mixed(0.5, 0.5), 1)
    assert isinstance(made, Mixture)
    assert [type(part).__name__ for part in made.parts] == ["Uniform", "Uniform"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, r"replay.sampler.name: not set; give replay.sampler.name=VALUE, one of uniform, recent, .*"),
        ({"name": "unifrm"}, r"replay.sampler.name = 'unifrm': no such sampler, did you mean uniform\?"),
        ({"name": "uniform", "off": 1}, r"replay.sampler.off: no such key, did you mean of\?"),
        (
            {"name": "uniform", "of": "mine"},
            r"replay.sampler.of = 'mine', allowed online, demonstrations, .*; choose .*",
        ),
        (mixed(0.5, 0.4), r"replay.sampler.parts = shares of 0.9 in sum, allowed 1; change one share"),
        (mixed(1.5, -0.5), r"replay.sampler.parts\[0\].share = 1.5, allowed 0 to 1; it is a fraction of the batch"),
        (
            mixed(0.5, 0.5, sampler={"name": "recent", "row": 3}),
            r"replay.sampler.parts\[0\].sampler.row: no such key, did you mean rows\?",
        ),
        (
            {"name": "ready", "column": "a", "sampler": {"name": "task", "tsk": "peg"}},
            r"replay.sampler.sampler.tsk: no such key, did you mean task\?",
        ),
        ({"name": "ready"}, r"replay.sampler.column: not set; give replay.sampler.column=VALUE"),
        ({"name": "recent"}, r"replay.sampler.rows = None, allowed 1 or more; set rows or episodes, .*"),
        (
            {"name": "recent", "rows": 0},
            r"replay.sampler.rows = 0, allowed 1 or more; a window of nothing draws nothing",
        ),
        (
            {"name": "recent", "rows": 1, "of": "shown"},
            r"replay.sampler.of = 'shown', allowed online or demonstrations; .*",
        ),
        (
            {"name": "fresh", "max_versions": -1},
            r"replay.sampler.max_versions = -1, allowed 0 or more; 0 is on-policy .*",
        ),
        (
            {"name": "on_policy", "max_versions": -1},
            r"replay.sampler.max_versions = -1, allowed 0 or more; 0 is what the newest weights did",
        ),
        (
            {"name": "on_policy", "max_versions": 1, "limit": 0},
            r"replay.sampler.limit = 0, allowed 1 or more; it is how many episodes may wait",
        ),
        ({"name": "prioritised", "of": "shown"}, r"replay.sampler.of = 'shown', allowed online, .*; mix two of these"),
        ({"name": "prioritised", "alpha": 1.5}, r"replay.sampler.alpha = 1.5, allowed 0 to 1; change it"),
        ({"name": "prioritised", "epsilon": 0.0}, r"replay.sampler.epsilon = 0.0, allowed 1e-09 to 1; change it"),
        ({"name": "prioritised", "beta_draws": 0}, r"replay.sampler.beta_draws = 0, allowed 1 or more; change it"),
    ],
)
def test_a_wrong_tree_is_refused_by_its_key(tree: Tree, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        make_sampler(tree, 1)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "nstep"}, r"replay.shape.name = 'nstep': no such shape, did you mean n_step\?"),
        ({"name": "chunk"}, r"replay.shape.length: not set; give replay.shape.length=VALUE"),
        ({"name": "chunk", "length": 0}, r"replay.shape.length = 0, allowed 1 or more; a sample has a step"),
        ({"name": "transition", "gamma": 1.1}, r"replay.shape.gamma = 1.1, allowed 0 to 1; it discounts a step"),
    ],
)
def test_a_wrong_shape_is_refused_by_its_key(tree: Tree, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        make_shape(tree)
