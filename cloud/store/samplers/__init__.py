"""The samplers by name; a sampler's config is a tree {name: ..., its keys}, nested where it is put around others."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cloud.store.sampler import Sampler
from cloud.store.samplers.around import Around
from cloud.store.samplers.demonstrations import Demonstrations, DemonstrationsConfig
from cloud.store.samplers.fresh import FreshConfig, fresh
from cloud.store.samplers.mixture import Mixture, MixtureConfig
from cloud.store.samplers.on_policy import OnPolicy, OnPolicyConfig
from cloud.store.samplers.origin import RobotConfig, TaskConfig, robot, task
from cloud.store.samplers.outcome import OutcomeConfig, outcome
from cloud.store.samplers.prioritised import Prioritised, PrioritisedConfig
from cloud.store.samplers.ready import ReadyConfig, ready
from cloud.store.samplers.recent import Recent, RecentConfig
from cloud.store.samplers.uniform import Uniform, UniformConfig
from user_rl.config import Tree, build, nearest
from user_rl.errors import ConfigError

Make = Callable[[Any, Around], Sampler]
SAMPLERS: dict[str, tuple[Make, type]] = {
    "uniform": (Uniform, UniformConfig),
    "recent": (Recent, RecentConfig),
    "demonstrations": (Demonstrations, DemonstrationsConfig),
    "prioritised": (Prioritised, PrioritisedConfig),
    "mixture": (Mixture, MixtureConfig),
    "outcome": (outcome, OutcomeConfig),
    "fresh": (fresh, FreshConfig),
    "on_policy": (OnPolicy, OnPolicyConfig),
    "robot": (robot, RobotConfig),
    "task": (task, TaskConfig),
    "ready": (ready, ReadyConfig),
}


def make_sampler(tree: Tree, look_ahead: int, path: str = "replay.sampler.") -> Sampler:
    """The sampler that `tree` names, with those that it names in turn; raises ConfigError naming the key.

    `look_ahead` is K: the priorities of draw n act at draw n + K; at least one more than the draws made ahead.
    """
    if "name" not in tree:
        raise ConfigError(f"{path}name: not set; give {path}name=VALUE, one of {', '.join(SAMPLERS)}")
    name = tree["name"]
    if name not in SAMPLERS:
        raise ConfigError(f"{path}name = {name!r}: no such sampler, {nearest(str(name), list(SAMPLERS))}")
    make, config = SAMPLERS[name]
    inner = partial(_make_below, look_ahead=look_ahead, path=path)
    built: Any = build(config, {k: v for k, v in tree.items() if k != "name"}, path)
    return make(built, Around(path, look_ahead, inner))


def as_configured(demonstration_share: float, *, interventions: bool = True, max_versions: int | None = None) -> Tree:
    """What an algorithm asks for that names no sampler: its share of demonstrations first, then online rows, of which
    none is more than `max_versions` old (None: no limit)."""
    online: Tree = {"name": "uniform"} if max_versions is None else {"name": "fresh", "max_versions": max_versions}
    shown = {"name": "demonstrations", "interventions": interventions}
    return {
        "name": "mixture",
        "parts": [
            {"share": demonstration_share, "sampler": shown},
            {"share": 1 - demonstration_share, "sampler": online},
        ],
    }


def _make_below(tree: Tree, key: str, *, look_ahead: int, path: str) -> Sampler:
    return make_sampler(tree, look_ahead, path + key)
