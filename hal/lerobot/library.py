"""Library: LeRobot itself, as its own command lines use it. Runs in LeRobot's environment only.

Source: lerobot 0.4.0 to 0.6.1, `lerobot.robots`, `lerobot.teleoperators`, `lerobot.utils.import_utils` (Apache-2.0): a
type registers its config with draccus when its module is imported; packages named `lerobot_robot_*` and
`lerobot_teleoperator_*` are imported by LeRobot's own search; the device's class is the config's name without `Config`.
"""

import importlib
import importlib.metadata
import logging
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from hal.plugins import BROKEN
from user_rl.config import nearest
from user_rl.errors import ConfigError

log = logging.getLogger(__name__)

Device = Any  # an object of LeRobot's, whose types are not known here


def make_robot(kind: str, options: Mapping[str, Any]) -> Device:
    """LeRobot's robot of this type, not connected; raises ConfigError when there is none."""
    import lerobot.robots as package

    return package.make_robot_from_config(_config(package, package.RobotConfig, kind, options))


def make_teleoperator(kind: str, options: Mapping[str, Any]) -> Device:
    """LeRobot's teleoperator of this type, not connected; raises ConfigError when there is none."""
    import lerobot.teleoperators as package

    return package.make_teleoperator_from_config(_config(package, package.TeleoperatorConfig, kind, options))


def version() -> str:
    """Of the LeRobot that is installed here."""
    try:
        return importlib.metadata.version("lerobot")
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"


def _config(package: Any, base: Any, kind: str, options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    import draccus
    import lerobot.utils.import_utils as search

    register = getattr(search, "register_third_party_plugins", None) or search.register_third_party_devices
    register()
    broken = _import_devices(package, lambda: kind in base.get_known_choices())
    if kind not in base.get_known_choices():
        reasons = "".join(f"; {name} does not load: {why}" for name, why in broken.items())
        known = sorted(base.get_known_choices())
        raise ConfigError(f"type = {kind}: LeRobot {version()} has no such type, {nearest(kind, known)}{reasons}")
    if options.get("cameras"):
        import lerobot.cameras

        _import_devices(lerobot.cameras, lambda: False)  # so that their types are known
    return draccus.decode(base, {"type": kind, **options})


def _import_devices(package: Any, enough: Callable[[], bool]) -> dict[str, str]:  # noqa: ANN401
    """Imports LeRobot's own devices of one kind, each of which registers; returns what does not load, and why."""
    broken = {}
    for module in pkgutil.iter_modules(package.__path__):
        if enough():
            break
        if module.ispkg:
            try:
                importlib.import_module(f"{package.__name__}.{module.name}")
            except BROKEN as error:
                broken[module.name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return broken
