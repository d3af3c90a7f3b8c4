"""As `lerobot.cameras.configs`."""

from dataclasses import dataclass

import draccus


@dataclass(kw_only=True)
class CameraConfig(draccus.ChoiceRegistry):
    """The base of every camera's config."""

    fps: int | None = None
    width: int | None = None
    height: int | None = None
