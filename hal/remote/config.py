"""What a client of a served part may be told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RemoteConfig:
    """Where a part is served, and how long to wait for it."""

    invitation: str  # the file that hal.serve wrote into its home, or a copy of it
    address: str | None = None  # tcp://HOST:PORT; None: as the invitation says
    part: str | None = None  # None: robot, teleop, or cameras.NAME by the camera's name here
    connect_s: float = 5.0  # until the server is found
    deadline_s: float = 0.25  # of a reading, a command, a halt
    open_s: float = 30.0  # of opening and closing the device

    def __post_init__(self) -> None:
        for name in ("connect_s", "deadline_s", "open_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} = {getattr(self, name)}, allowed above 0; change its value")
