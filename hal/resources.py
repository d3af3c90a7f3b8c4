"""Resources: robots, cameras, serial adapters and accelerators as one kind of thing: what it is, can and suffers from.

Plain data without behaviour: discovery makes it, the edge and the cloud send it, the inventory adds who holds it.
What is not known is None (or empty), never a guess.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class ResourceKind(StrEnum):
    """What sort of thing it is."""

    CELL = "cell"  # a robot with its cameras and teleop: what is leased
    ROBOT = "robot"
    CAMERA = "camera"
    SERIAL = "serial"
    ACCELERATOR = "accelerator"


class Condition(StrEnum):
    """How a thing is, by what may be done with it."""

    OK = "ok"
    DEGRADED = "degraded"  # usable, less than it should be: the reason says what is missing
    BROKEN = "broken"  # not usable: the reason says what to do
    UNKNOWN = "unknown"  # nobody has looked yet, or the look took too long


@dataclass(frozen=True, kw_only=True)
class Health:
    """A condition with its reason; OK needs none."""

    condition: Condition = Condition.UNKNOWN
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """What a device that computes has. A MIG slice is an accelerator of its own and names the GPU it is part of."""

    vendor: str  # nvidia, amd, apple, ...
    memory_bytes: int
    free_bytes: int | None = None  # at the time of looking
    multiprocessors: int | None = None  # SMs, or what the vendor calls them
    utilisation: float | None = None  # 0..1, at the time of looking
    mig_profile: str = ""  # e.g. 1g.10gb; empty: a whole device
    parent: str = ""  # id of the GPU that a slice is part of
    slices: tuple[str, ...] = ()  # ids of its own slices: compute is leased from them, not from the whole


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a request may ask for. Fields that do not apply keep their defaults."""

    degrees_of_freedom: int | None = None
    control_modes: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()  # names of a cell's cameras
    rate_hz: float | None = None
    accelerator: Accelerator | None = None


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One thing. `id` is unique in the fleet and outlives restarts: a serial number, a UUID or an enrolled name."""

    id: str
    kind: ResourceKind
    model: str
    site: str = ""
    address: str = ""  # how its machine reaches it: host:port, /dev/video0, an index
    capabilities: Capabilities = field(default_factory=Capabilities)
    health: Health = field(default_factory=Health)
    owner: str = ""  # who holds it now; empty: nobody
