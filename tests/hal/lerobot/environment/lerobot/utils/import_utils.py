"""How LeRobot finds plugins, and a device's class by its config's name."""

import importlib
import importlib.metadata
import logging
from typing import Any

PREFIXES = ("lerobot_robot_", "lerobot_camera_", "lerobot_teleoperator_", "lerobot_policy_")


def register_third_party_plugins() -> None:
    for found in importlib.metadata.distributions():
        name = found.metadata.get("Name") or ""
        if name.startswith(PREFIXES):
            try:
                importlib.import_module(name)
            except Exception:
                logging.exception("Could not import third-party plugin: %s", name)


def make_device_from_device_class(config: Any) -> Any:  # noqa: ANN401
    cls = type(config)
    parent = importlib.import_module(cls.__module__.rpartition(".")[0])
    return getattr(parent, cls.__name__.removesuffix("Config"))(config)
