"""The optional libraries of this package, imported when they are used; a missing one is one line naming the extra."""

import importlib
from typing import Any

from user_rl.errors import ConfigError

EXTRA = "pip install 'user-rl[datasets]'"


def library(name: str) -> Any:  # noqa: ANN401  # a module
    """The module `name`; raises ConfigError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"datasets need {error.name or name}, which is not installed; {EXTRA}") from error
