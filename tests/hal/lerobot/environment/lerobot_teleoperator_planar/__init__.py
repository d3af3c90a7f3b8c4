"""Two teleoperator plugins of LeRobot's shape: a leader arm without events, and a pad with them."""

from .planar_leader import PlanarLeader, PlanarLeaderConfig
from .planar_pad import PlanarPad, PlanarPadConfig

__all__ = ["PlanarLeader", "PlanarLeaderConfig", "PlanarPad", "PlanarPadConfig"]
