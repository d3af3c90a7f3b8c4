"""Ask: one request of a run for robots and accelerators, granted whole or queued. Pure data, checked when it is made.

Ask(robots=RobotsAsk(model="panda", count=2, site="lab-a", cameras=2), learner=AcceleratorsAsk(gpus=1),
    inference=AcceleratorsAsk(gpus=1, near="robots"), priority=5)
"""

from dataclasses import dataclass

from user_rl.errors import WireError

NEAR_ROBOTS = "robots"
LARGEST_PRIORITY = 1000


@dataclass(frozen=True, kw_only=True)
class RobotsAsk:
    """`count` cells in all, each of which matches whatever else is said here."""

    count: int = 1
    min_count: int = 0  # a run that has begun goes on with so many when one is lost; 0: count
    model: str = ""  # any
    site: str = ""  # any
    cameras: int = 0  # that work, at least
    control_mode: str = ""  # any
    cells: tuple[str, ...] = ()  # out of these; none named: any

    def __post_init__(self) -> None:
        most = len(set(self.cells)) if self.cells else 2**31
        if not 1 <= self.count <= most:
            raise WireError(f"a request for {self.count} cells, allowed 1 to {most} here; change count or cells")
        if not 0 <= self.min_count <= self.count:
            raise WireError(f"min_count = {self.min_count} of {self.count} cells, allowed 0 to count; change it")

    @property
    def enough(self) -> int:
        """With how many cells a run that has begun goes on."""
        return self.min_count or self.count


@dataclass(frozen=True, kw_only=True)
class AcceleratorsAsk:
    """`gpus` accelerators, each leased as a whole."""

    gpus: int = 0
    near: str = ""  # robots: on the site of the granted robots; empty: anywhere

    def __post_init__(self) -> None:
        if not 0 <= self.gpus <= 2**31:
            raise WireError(f"a request for {self.gpus} gpus, allowed 0 or more; change it")
        if self.near not in ("", NEAR_ROBOTS):
            raise WireError(f"near = {self.near!r}, allowed {NEAR_ROBOTS} or nothing; change it")


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Everything that a run wants to hold at one time. What it holds already counts, so asking again tops it up."""

    robots: RobotsAsk = RobotsAsk()
    learner: AcceleratorsAsk = AcceleratorsAsk()
    inference: AcceleratorsAsk = AcceleratorsAsk()
    priority: int = 0  # a higher one goes first; equal ones in the order of their first asking
    preemptible: bool = False  # its cells may be told to finish their episode for a higher priority

    def __post_init__(self) -> None:
        if abs(self.priority) > LARGEST_PRIORITY:
            raise WireError(f"priority = {self.priority}, allowed {-LARGEST_PRIORITY} to {LARGEST_PRIORITY}; change it")
