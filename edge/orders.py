"""What the edge's processes tell each other through shared memory: the newest of each, never a queue.

control -> link: `Card` once, `Report` often. link -> control: `Orders`, and `StopOrder`, which cannot wait. All of them
are plain msgpack.
"""

from enum import StrEnum

import msgspec

NO_LIMIT = 2**63 - 1  # a permit's `last_step` when nothing holds the stream back


class State(StrEnum):
    """What control is doing, as the fleet shows it."""

    STARTING = "starting"
    NO_LEASE = "waiting for a lease"
    NO_WEIGHTS = "waiting for weights"
    NO_PERMIT = "waiting for a permit"
    NO_SPACE = "waiting for space"
    NO_SENSOR = "waiting for a sensor"
    HELD = "held by a watch"
    HALTED = "halted by a watch"
    RUNNING = "running"
    DEMONSTRATING = "demonstrating"
    FAULT = "fault"
    STOPPED = "stopped"


class Orders(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What link wants of control. A field keeps its last value when its lease ends; `lease_until_s` decides."""

    run: str = ""
    token: int = 0
    boot: str = ""  # of the stream to record: 32 hex digits
    generation: int = 0  # counts the streams of this daemon's life; every row in the ring carries it
    lease_until_s: float = 0.0  # on the machine's monotonic clock
    last_step: int = -1  # the permit: online steps beyond it wait
    demonstrations: int = 0  # still wanted, counted by the cloud over rows up to `acknowledged`
    acknowledged: int = -1
    weights: str = ""  # folder of a whole, verified version
    weights_number: int = 0
    finish: bool = False  # no further episode: a higher priority waits for this cell
    evaluate: bool = False  # the policy's mode, without exploration
    clock_offset_s: float = 0.0  # cloud time minus edge time
    heard_s: float = 0.0  # when the fleet was last heard, on the machine's monotonic clock; 0: never


class StopOrder(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Halt the robot now; see edge.stop."""

    text: str  # who wants it and why


class PartReport(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """How one part of the cell is, as control has measured it."""

    name: str  # robot, teleop, or a camera's name
    health: str  # in hal.resources.Condition's words
    reason: str = ""


class Report(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What control says of itself."""

    state: State = State.STARTING
    reason: str = ""
    heard: int = 0  # number of the newest orders that control had read by then
    generation: int = 0
    step: int = -1  # the last one recorded
    episode: int = 0
    version: int = 0
    steps_per_s: float = 0.0
    late: int = 0  # steps that began after their deadline
    skipped: int = 0  # periods that were left out because of it
    held: int = 0  # times that the robot stood still because the ring was full
    unserved: int = 0  # periods at which nothing was proposed and no operator acted: without an action
    fired: int = 0  # times that a watch of edge.safety has begun to fire
    success: bool | None = None  # of the last whole episode
    parts: tuple[PartReport, ...] = ()  # all of them, or none before the cell is open


class Card(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the cell is; control posts it before it opens the robot."""

    schema: bytes
    model: str
    rate_hz: float
    on_silence: str
    halt_command: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    control_modes: tuple[str, ...] = ()
    teleop: str = ""  # its kind; empty: nobody
