"""Parts: a Robot, a Camera and a Teleop as what a server offers: their spec as bytes, and an answer to each request."""

from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np

from hal.camera import Camera
from hal.remote.messages import Begin, Command, Done, Kind, Read, Reading, Replies, Requests, Sent
from hal.remote.specs import encode_spec
from hal.robot import OnSilence, Robot, RobotSpec
from hal.teleop import Teleop
from user_rl.clock import Clock
from user_rl.errors import WireError

Answer = tuple[Replies, memoryview | None]
Payload = memoryview | None


class Part(Protocol):
    """What is served under one name. All calls come from one thread."""

    kind: ClassVar[Kind]

    def spec(self) -> bytes:
        """For hal.remote.specs.decode_spec."""

    def open(self) -> None: ...

    def answer(self, request: Requests, payload: Payload, clock: Clock) -> Answer:
        """What an open part says to `request`; raises HardwareError, SpecError, WireError."""

    def halt(self) -> None:
        """Nothing of this part moves after it."""

    def close(self) -> None:
        """Halts it, and lets go of the device."""


class RobotPart:
    """See Part. On this side of the wire silence is the server's to end: see `served_spec`."""

    kind: ClassVar[Kind] = "robot"

    def __init__(self, robot: Robot) -> None:
        self.robot = robot

    def spec(self) -> bytes:
        return encode_spec(served_spec(self.robot.spec))

    def open(self) -> None:
        self.robot.open()

    def answer(self, request: Requests, payload: Payload, clock: Clock) -> Answer:
        if isinstance(request, Read):
            state = self.robot.read()
            self.robot.spec.state.check(state.values)
            return Reading(request.call, clock.now_s(), state.stamp_s), _bytes(state.values)
        if isinstance(request, Command) and payload is not None:
            sent = self.robot.command(_floats(payload))
            return Sent(request.call, clock.now_s()), _bytes(sent)
        raise _unfit(self.kind, request)

    def halt(self) -> None:
        self.robot.halt()

    def close(self) -> None:
        try:
            self.robot.halt()
        finally:
            self.robot.close()


class CameraPart:
    """See Part."""

    kind: ClassVar[Kind] = "camera"

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    def spec(self) -> bytes:
        return encode_spec(self.camera.spec)

    def open(self) -> None:
        self.camera.open()

    def answer(self, request: Requests, payload: Payload, clock: Clock) -> Answer:
        if not isinstance(request, Read):
            raise _unfit(self.kind, request)
        frame = self.camera.read()
        self.camera.spec.check(frame.pixels)
        return Reading(request.call, clock.now_s(), frame.stamp_s), _bytes(frame.pixels)

    def halt(self) -> None:
        """Nothing moves."""

    def close(self) -> None:
        self.camera.close()


class TeleopPart:
    """See Part."""

    kind: ClassVar[Kind] = "teleop"

    def __init__(self, teleop: Teleop) -> None:
        self.teleop = teleop

    def spec(self) -> bytes:
        return encode_spec(self.teleop.action)

    def open(self) -> None:
        self.teleop.open()

    def answer(self, request: Requests, payload: Payload, clock: Clock) -> Answer:
        if isinstance(request, Begin):
            self.teleop.begin(demonstrate=request.demonstrate)
            return Done(request.call, clock.now_s()), None
        if not isinstance(request, Read):
            raise _unfit(self.kind, request)
        hand = self.teleop.poll()
        if hand.action is not None:
            self.teleop.action.check(hand.action)
        reading = Reading(
            request.call, clock.now_s(), hand.stamp_s, hand.is_intervention, hand.success, hand.failure,
            hand.rerecord_episode, hand.terminate_episode, hand.is_enabled,
        )  # fmt: skip
        return reading, memoryview(b"") if hand.action is None else _bytes(hand.action)

    def halt(self) -> None:
        """Nothing moves."""

    def close(self) -> None:
        self.teleop.close()


def served_spec(spec: RobotSpec) -> RobotSpec:
    """`spec` as a client sees it: its silence is ended by the server, whose own death is the watch's affair.

    A robot that nothing at all stops stays one.
    """
    if spec.on_silence is OnSilence.NONE:
        return spec
    return replace(spec, on_silence=OnSilence.STOPS, halt_command=())


def _unfit(kind: Kind, request: Requests) -> WireError:
    return WireError(f"{type(request).__name__} to a {kind}, allowed what a {kind} understands; drop it")


def _floats(payload: memoryview) -> np.ndarray:
    if len(payload) % 4:
        raise WireError(f"a target of {len(payload)} bytes, allowed float32 numbers; drop it")
    return np.frombuffer(payload, np.float32).copy()


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).data.cast("B")
