"""The live socket of a gateway: answers pings at once, and keeps the newest that each cell shows of itself.

It has its own context and thread. What a cell shows is kept in memory and written to RUN/live for whoever wants to
look: CELL.json and CELL-CAMERA.jpg, whole or not at all, twice a second at most, without fsync. An edge shows its own
cell only. Telemetry is appended to RUN/telemetry/CELL.jsonl, which is rotated once.
"""

import logging
import math
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from cloud.ingest import GatewayConfig
from user_rl.channels import Allowed, ChannelConfig, Received, ServerChannel
from user_rl.clock import Clock
from user_rl.errors import WireError
from user_rl.trust import CurveKeys
from user_rl.wire import Limits, Live, Message, Picture, Ping, Pong, Timings, decode, encode

log = logging.getLogger(__name__)

LIMITS = Limits(header_bytes=2**16, payload_bytes=2**16)
WRITE_S = 0.5  # between two writes of one cell
CAMERAS = 8  # of one cell
TELEMETRY_BYTES = 16 * 2**20  # of one file; the one before it is kept as .1
COMPLAIN_S = 60.0


@dataclass
class _Shown:
    """What one cell shows."""

    live: Live | None = None
    pictures: dict[str, bytes] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)  # cameras whose picture is not written yet
    written_s: float = float("-inf")


class LiveDoor:
    """`run` in one thread; `stop` from any."""

    def __init__(self, folder: Path, config: GatewayConfig, *, keys: CurveKeys, allowed: Allowed, clock: Clock) -> None:
        """`folder`: the run's. Raises ConfigError when the port is in use."""
        self._folder, self._config, self._clock = folder, config, clock
        bounds = ChannelConfig(max_frame_bytes=2**16, queue=64)
        self._channel = ServerChannel(f"tcp://{config.host}:{config.live_port}", keys, allowed, config=bounds)
        self.address = self._channel.address
        self.refused = 0
        self._shown: dict[str, _Shown] = {}
        self._complained_s = float("-inf")
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serves until `stop`, then closes the socket."""
        try:
            while not self._stopping.is_set():
                received = self._channel.receive(self._config.tick_s)
                if received is not None:
                    self._take(received, self._clock.now_s())
        finally:
            self._channel.close()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self._stopping.set()

    def close(self) -> None:
        """Closes the socket of a door that never ran."""
        self._channel.close()

    def _take(self, received: Received, came_s: float) -> None:
        try:
            message, payloads = decode(received.frames, LIMITS)
            if isinstance(message, Ping):
                pong = Pong(message.sent_s, came_s, self._clock.now_s(), message.body)
                self._channel.send(received.peer, encode(pong))
                return
            self._show(received.user, message, payloads, came_s)
        except WireError as error:
            self.refused += 1
            self._complain(f"refused {received.user} at the live socket: {error}", came_s)

    def _show(self, user: str, message: Message, payloads: list[memoryview], now_s: float) -> None:
        kind, _, cell = user.partition(":")
        if kind != "edge":
            raise WireError(f"{type(message).__name__} from {user}, allowed of edges; drop it")
        shown = self._shown.setdefault(cell, _Shown())
        if isinstance(message, Live):
            shown.live = _checked(message, cell)
        elif isinstance(message, Picture):
            _keep_picture(shown, message, bytes(payloads[0]))
        elif isinstance(message, Timings):
            self._append(cell, message.record, now_s)
        else:
            raise WireError(f"{type(message).__name__} at the live socket, allowed Ping, Live, Picture, Timings")
        if now_s - shown.written_s >= WRITE_S:
            self._write(cell, shown, now_s)

    def _write(self, cell: str, shown: _Shown, now_s: float) -> None:
        shown.written_s = now_s
        folder = self._folder / "live"
        try:
            folder.mkdir(exist_ok=True)
            for camera in shown.fresh:
                _put(folder / f"{cell}-{camera}.jpg", shown.pictures[camera])
            if shown.live is not None:
                _put(folder / f"{cell}.json", msgspec.json.encode(as_tree(shown.live, sorted(shown.pictures))))
            shown.fresh.clear()
        except OSError as error:
            self._complain(f"{folder}: {error}; nobody can watch, nothing else is harmed", now_s)

    def _append(self, cell: str, record: bytes, now_s: float) -> None:
        try:
            line = msgspec.json.encode(msgspec.json.decode(record, type=dict[str, Any]))
        except (msgspec.MsgspecError, RecursionError) as error:
            raise WireError(f"timings of {len(record)} bytes are no JSON object: {error}; drop them") from error
        path = self._folder / "telemetry" / f"{cell}.jsonl"
        try:
            path.parent.mkdir(exist_ok=True)
            if path.exists() and path.stat().st_size > TELEMETRY_BYTES:
                path.replace(path.with_suffix(".jsonl.1"))
            with path.open("ab") as file:
                file.write(line + b"\n")
        except OSError as error:
            self._complain(f"{path}: {error}; telemetry is dropped", now_s)

    def _complain(self, text: str, now_s: float) -> None:
        if now_s - self._complained_s >= COMPLAIN_S:
            self._complained_s = now_s
            log.warning("%s", text)


def as_tree(live: Live, cameras: list[str]) -> dict[str, Any]:
    """What CELL.json holds: the message's fields, the robot's state as numbers, the cameras that have a picture."""
    tree: dict[str, Any] = msgspec.structs.asdict(live)
    robot = np.frombuffer(live.robot, "<f4")
    return tree | {"robot": [float(f"{x:.6g}") for x in robot if np.isfinite(x)], "cameras": cameras}


def _checked(live: Live, cell: str) -> Live:
    if live.cell != cell:
        raise WireError(f"what cell {live.cell} shows, allowed {cell}, the sender's own; drop it")
    numbers = [value for value in msgspec.structs.astuple(live) if isinstance(value, float)]
    if not all(map(math.isfinite, numbers)) or len(live.robot) % 4:
        raise WireError(f"{cell} shows numbers that are none; drop them")
    return live


def _keep_picture(shown: _Shown, picture: Picture, data: bytes) -> None:
    if not data.startswith(b"\xff\xd8"):
        raise WireError(f"{len(data)} bytes of camera {picture.camera} are no JPEG; drop them")
    if picture.camera not in shown.pictures and len(shown.pictures) >= CAMERAS:
        raise WireError(f"camera {picture.camera} beyond {CAMERAS}; show fewer")
    shown.pictures[picture.camera] = data
    shown.fresh.add(picture.camera)


def _put(path: Path, data: bytes) -> None:
    """Whole or not at all for who reads it now; a power cut may lose it."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)
