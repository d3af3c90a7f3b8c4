"""Plugins: drivers that other packages bring by entry points. Nothing is imported until its name is asked for."""

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hal.driver import Driver
from user_rl.config import Tree, defaults
from user_rl.errors import ConfigError, UserRlError

ENTRY_POINTS = {
    "robot": "user_rl.robots", "cameras": "user_rl.cameras", "teleop": "user_rl.teleops", "task": "user_rl.tasks",
}  # fmt: skip
BROKEN = (  # what importing the code of others may raise
    ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError, LookupError, ArithmeticError, OSError,
    RuntimeError, AssertionError, UserRlError,
)  # fmt: skip


@cache
def offers(group: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Who offers which name in `group`; nothing is imported."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=ENTRY_POINTS[group]):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def check_ours(group: str, name: str) -> None:
    """Raises ConfigError when another package claims a name of ours."""
    for point in offers(group).get(name, ()):
        raise ConfigError(
            f"{group}={name} is ours, and {_package(point)} offers one of that name too; rename or uninstall that one"
        )


def driver(group: str, name: str) -> Driver[Any] | None:
    """What another package offers under `name`; None: nobody does. Raises ConfigError naming who is broken, and how."""
    points = offers(group).get(name, ())
    if not points:
        return None
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package, points)))
        raise ConfigError(f"{group}={name} is offered by {packages}, allowed one; uninstall the other")
    return _load(group, points[0])


def node(group: str, name: str) -> Tree:
    """The plugin's defaults as a node of Hydra's store; raises ConfigError."""
    found = driver(group, name)
    return {"name": name} if found is None else {"name": name, **defaults(found.config)}


def _load(group: str, point: EntryPoint) -> Driver[Any]:
    try:
        loaded = point.load()
    except BROKEN as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(
            f"{group}={point.name}: {_package(point)} does not load: {why}; mend or uninstall it"
        ) from error
    if not isinstance(loaded, Driver):
        raise ConfigError(
            f"{group}={point.name}: {point.value} of {_package(point)} is a {type(loaded).__name__}, allowed a "
            "hal.driver.Driver(config=..., make=...); mend it"
        )
    return loaded


def _package(point: EntryPoint) -> str:
    return point.value if point.dist is None else f"{point.dist.name} {point.dist.version}"
