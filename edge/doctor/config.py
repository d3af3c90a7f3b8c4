"""What the doctor can be told."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """How long the doctor looks, and whether it may move the robot."""

    move: bool = False
    for_s: float = 3.0  # of measuring each part
    deadline_s: float = 10.0  # of each stage, beside the measuring
