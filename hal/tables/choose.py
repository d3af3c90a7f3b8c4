"""Choosing: from a tree with a `name` and keys to the thing that it names, out of a table or another package."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hal import plugins
from hal.driver import Parts
from user_rl.config import Tree, build, defaults
from user_rl.errors import ConfigError

T = TypeVar("T")
Choice = tuple[type, Callable[[Any, Parts], T]]  # as hal.driver.Driver


def choose(group: str, table: Mapping[str, Choice[T]], tree: Mapping[str, Any], path: str, parts: Parts) -> T:
    """What `tree` names; raises ConfigError naming the key, its value and what is allowed."""
    name = str(tree.get("name"))
    if name in table:
        plugins.check_ours(group, name)
    choice = table.get(name) or plugins.driver(group, name)
    if choice is None:
        allowed = ", ".join([*table, *(n for n in plugins.offers(group) if n not in table)])
        raise ConfigError(f"{path}.name = {name}, allowed {allowed}; choose one of these")
    cls, make = choice
    return make(build(cls, {key: value for key, value in tree.items() if key != "name"}, f"{path}."), parts)


def nodes(table: Mapping[str, Choice[Any]]) -> dict[str, Tree]:
    """The table as a group of Hydra's store."""
    return {name: {"name": name, **defaults(cls)} for name, (cls, _) in table.items()}
