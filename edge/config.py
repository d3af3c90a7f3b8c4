"""What the daemon can be told: the cell's keys at the root, and its own beside them."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from edge.inference.config import InferenceConfig
from edge.logs import LogConfig
from edge.pace import PaceConfig
from edge.room_config import RoomConfig
from edge.safety import SafetyConfig
from edge.telemetry import TelemetryConfig
from hal.embodiment import Layout
from hal.guard import GuardConfig
from user_rl.clock import Clock, FreeRunningClock, SystemClock
from user_rl.errors import ConfigError
from user_rl.tunnels import TunnelConfig

HALT_COMMAND_S = 10.0  # an out-of-band halt command may take so long


class Pace(StrEnum):
    """What a period is: wall-clock time, or as fast as the simulation goes."""

    REAL = "real"
    FREE = "free"


class Realtime(StrEnum):
    """Whether control asks for FIFO scheduling."""

    AUTO = "auto"  # in real pace, where permitted; one line where not
    OFF = "off"


class Swap(StrEnum):
    """Where newer weights begin to act."""

    STEP = "step"  # at the next one after they are loaded
    CHUNK = "chunk"  # when the actions of the running chunk are used up
    EPISODE = "episode"


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """Sizes and times of spooling, sending and fetching."""

    commit_ms: float = 20.0  # rows wait at most so long for their fsync
    commit_bytes: int = 2**20  # or until there are so many
    chunk_bytes: int = 4 * 2**20  # of one message of rows
    window_bytes: int = 16 * 2**20  # sent and not yet acknowledged
    answer_s: float = 5.0  # without an answer for so long: say hello again
    weights_every_s: float = 0.3
    part_bytes: int = 512 * 2**10  # of one message of weights
    keep_versions: int = 3
    heartbeat_s: float = 1.0
    longest_pause_s: float = 30.0  # between two attempts after a refusal
    segment_bytes: int = 256 * 2**20
    codecs: dict[str, str] = field(default_factory=dict)  # of the spool, as log.codecs: {observation.images.*: jpeg:90}
    room: RoomConfig = field(default_factory=RoomConfig)
    pace: PaceConfig = field(default_factory=PaceConfig)
    live_hz: float = 5.0  # of the live stream at most; 0: none, pings only

    def __post_init__(self) -> None:
        if not 0 <= self.live_hz <= 30:
            raise ConfigError(f"link.live_hz = {self.live_hz:g}, allowed 0 to 30; leave it out for 5")


@dataclass(frozen=True, kw_only=True)
class EdgeConfig:
    """One cell's daemon."""

    name: str  # of the cell, as enrolled
    bundle: str  # file with the fleet's address and this cell's keys
    home: str  # folder: spool, weights, lease
    site: str = ""  # network neighbourhood, as requests name it
    robot: dict[str, Any]
    task: dict[str, Any]
    cameras: dict[str, Any] = field(default_factory=dict)
    teleop: dict[str, Any] | None = None
    guard: GuardConfig = field(default_factory=GuardConfig)
    layout: Layout | None = None  # see hal.make.CellConfig
    pace: Pace = Pace.REAL
    seed: int = 0  # of episode starts and exploration
    evaluate: bool = False  # act by the policy's mode, without exploration
    swap: Swap = Swap.EPISODE  # where newer weights begin to act
    hold_at_permit: bool = (
        False  # real pace: wait between episodes while the learner is behind (free pace always waits)
    )
    realtime: Realtime = Realtime.AUTO
    cpus: tuple[int, ...] = ()  # control's; the edge's other processes keep off them. None named: whichever is free
    restart_control: bool | None = None  # None: a robot that did not answer is opened again, a crash
    # only in free pace; a latched fault waits for a person
    allow_no_silence_stop: bool = False  # run a robot that nothing stops when commands stop coming
    pulse_s: float | None = None  # control is wedged after; None: 2 in real pace, 20 in free
    reset_s: float = 120.0  # opening, resetting and loading weights may take so long
    stop_s: float = 15.0  # control has so long to stop by itself
    drain_s: float = 10.0  # link has so long to upload before it ends
    ring_bytes: int = 64 * 2**20
    spool_bytes: int = 8 * 2**30
    link: LinkConfig = field(default_factory=LinkConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    tunnel: TunnelConfig = field(default_factory=TunnelConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def root(self) -> Path:
        """`home`, with ~ resolved."""
        return Path(self.home).expanduser()

    @property
    def free(self) -> bool:
        """Whether simulation time runs by itself."""
        return self.pace is Pace.FREE

    @property
    def pulse_limit_s(self) -> float:
        """How long control may be silent within an episode."""
        return self.pulse_s if self.pulse_s is not None else (20.0 if self.free else 2.0)

    @property
    def restarts(self) -> bool:
        """Whether a control that crashed is started again."""
        return self.free if self.restart_control is None else self.restart_control

    @property
    def reopens(self) -> bool:
        """Whether a robot that did not answer is opened again."""
        return self.restart_control is not False

    @property
    def end_s(self) -> float:
        """How long a stop may take: control and its halt command, then link, then the tunnel."""
        return self.stop_s + HALT_COMMAND_S + 2 * (self.drain_s + self.stop_s)

    def clock(self) -> Clock:
        """What paces the loop."""
        return FreeRunningClock() if self.free else SystemClock()
