"""A control loop on a bench: a cell whose every call is written down, orders by hand, and time that moves when told."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge.config import EdgeConfig, Pace
from edge.control import card_of
from edge.desk import Desk
from edge.loop import control
from edge.orders import NO_LIMIT, Orders, Report
from edge.pacer import Pacer
from edge.recorder import Recorder
from edge.shared import Shared, make_shared
from hal.cell import Cell
from hal.robot import OnSilence, RobotSpec, RobotState
from hal.task import Judgement
from hal.teleop import TeleopReading
from hal.testing import FakeCamera
from policies.policy import SingleStep
from user_rl.clock import Clock, FakeClock
from user_rl.errors import StorageCorrupt
from user_rl.rows import Schema, make_schema
from user_rl.specs import Array, Box, box
from user_rl.versions import PolicySpec, Version

STATE = box("state", [("tip.x", "m", -100, 100), ("tip.y", "m", -100, 100)])
COMMAND = box("command", [("tip.delta.x", "m", -1, 1), ("tip.delta.y", "m", -1, 1)])
SCHEMA = make_schema({"observation.state": STATE}, COMMAND)
BOOT = "00" * 16


class LoggedRobot:
    """See hal.robot.Robot. `fails` maps a call's name to (which one of them, error)."""

    def __init__(self, calls: list[str], clock: Clock, *, on_silence: OnSilence = OnSilence.STOPS) -> None:
        self.calls, self._clock = calls, clock
        self.spec = RobotSpec(model="logged", state=STATE, command=COMMAND, rate_hz=10.0, on_silence=on_silence)
        self.fails: dict[str, tuple[int, Exception]] = {}
        self.position = np.zeros(2, np.float32)
        self.works_s = 0.0  # how long a command takes

    def _call(self, name: str) -> None:
        self.calls.append(name)
        which, error = self.fails.get(name, (0, None))
        if error is not None and self.calls.count(name) == which:
            raise error

    def open(self) -> None:
        self._call("open")

    def read(self) -> RobotState:
        self._call("read")
        return RobotState(stamp_s=self._clock.now_s(), values=self.position)  # the same buffer every time

    def command(self, target: Array) -> Array:
        self._call("command")
        self.position += target
        self._clock.sleep_until(self._clock.now_s() + self.works_s)
        return (target / 2).astype(np.float32)

    def halt(self) -> None:
        self._call("halt")

    def close(self) -> None:
        self._call("close")


class LoggedTask:
    """See hal.task.Task. Succeeds after `succeeds_at` commands of an episode, never if that is 0."""

    def __init__(self, calls: list[str], robot: LoggedRobot, *, max_steps: int = 5, succeeds_at: int = 0) -> None:
        self.name, self.max_steps, self.succeeds_at, self.cuts_at = "logged_task", max_steps, succeeds_at, 0
        self._calls, self._robot = calls, robot
        self.seeds: list[int] = []
        self.watch: Callable[[str], None] = lambda call: None
        self._steps = 0

    def reset(self, seed: int) -> None:
        self.watch("reset")
        self._calls.append("reset")
        self.seeds.append(seed)
        self._steps = 0
        self._robot.position[:] = 0

    def judge(self) -> Judgement:
        self.watch("judge")
        self._calls.append("judge")
        self._steps += 1
        success = self._steps == self.succeeds_at
        cut = self._steps == self.cuts_at
        return Judgement(reward=float(self._steps), done=success, success=success, truncated=cut)


class LoggedTeleop:
    """See hal.teleop.Teleop. `script` says what the operator does at poll n of an episode, given `demonstrate`."""

    action: Box = COMMAND

    def __init__(self, calls: list[str], script: Callable[[int, bool], dict[str, Any]], clock: Clock) -> None:
        self._calls, self._script, self._polls, self._demonstrate = calls, script, 0, False
        self._clock = clock

    def open(self) -> None:
        self._calls.append("teleop.open")

    def begin(self, *, demonstrate: bool) -> None:
        self._calls.append("demonstrate" if demonstrate else "begin")
        self._polls, self._demonstrate = 0, demonstrate

    def poll(self) -> TeleopReading:
        self._calls.append("poll")
        reading = TeleopReading(
            **{"stamp_s": self._clock.now_s(), "action": None, **self._script(self._polls, self._demonstrate)}
        )
        self._polls += 1
        return reading

    def close(self) -> None:
        self._calls.append("teleop.close")


class ConstantPolicy:
    """See policies.policy.SingleStep."""

    action: Box = COMMAND

    def __init__(self, calls: list[str], value: float) -> None:
        self._calls, self._value = calls, value
        self.explored: list[bool] = []

    def act(self, observation: Mapping[str, Array], *, explore: bool) -> Array:
        self._calls.append("act")
        self.explored.append(explore)
        return np.full(2, self._value, np.float32)


class ScriptClock(FakeClock):
    """A FakeClock with things that happen at their time, when it is slept through."""

    def __init__(self) -> None:
        super().__init__(1000.0)
        self._events: list[tuple[float, Callable[[], None]]] = []

    def at(self, when_s: float, what: Callable[[], None]) -> None:
        """`what` happens when the clock first sleeps past `when_s` seconds from now."""
        self._events.append((self.now_s() + when_s, what))

    def sleep_until(self, deadline_s: float) -> None:
        super().sleep_until(deadline_s)
        due = [e for e in self._events if e[0] <= self.now_s() + 1e-9]
        self._events = [e for e in self._events if e not in due]
        for _, what in due:
            what()


@dataclass(kw_only=True)
class Bench:
    """All the parts of a control process, to look into."""

    calls: list[str]
    clock: ScriptClock
    robot: LoggedRobot
    task: LoggedTask
    cell: Cell
    shared: Shared
    recorder: Recorder
    pacer: Pacer
    desk: Desk
    stops: list[bool]
    policies: dict[str, SingleStep] = field(default_factory=dict)
    orders: Orders = field(default_factory=Orders)

    def order(self, **changes: object) -> None:
        """Posts the orders with these changes."""
        fields = {name: getattr(self.orders, name) for name in Orders.__struct_fields__}
        self.orders = Orders(**{**fields, **changes})
        self.shared.orders.post(self.orders)

    def report(self) -> Report:
        """What control has said last."""
        report = self.shared.report.read()
        assert report is not None
        return report

    def add_camera(self, name: str) -> FakeCamera:
        """One more part of the cell, open; the ring has no place for its pictures."""
        camera = FakeCamera(name=name, clock=self.clock)
        camera.open()
        self.cell.cameras[name] = camera
        return camera

    def stop(self) -> None:
        """What SIGTERM does."""
        self.stops.append(True)

    def stop_after(self, for_s: float) -> None:
        """SIGTERM, `for_s` seconds from now."""
        self.clock.at(for_s, self.stop)

    def run(self) -> None:
        """The control loop until it stops."""
        control(self.cell, self.desk, self.recorder, self.pacer)

    def rows(self) -> Array:
        """Every row in the ring, oldest first."""
        ring, batches = self.recorder.ring, []
        position = ring.tail
        while batch := ring.read(position, 10_000):
            batches.append(batch.rows)
            position = batch.end
        return np.concatenate(batches) if batches else SCHEMA.new(0)


@contextmanager
def bench(
    *, pace: Pace = Pace.REAL, max_steps: int = 5, succeeds_at: int = 0,
    script: Callable[[int, bool], dict[str, Any]] | None = None, lease: bool = True, **config: object,
) -> Iterator[Bench]:  # fmt: skip
    """A bench at 10 Hz with a lease, version 1 (which commands 0.1) and no limit, unless orders say otherwise."""
    calls: list[str] = []
    clock = ScriptClock()
    robot = LoggedRobot(calls, clock)
    task = LoggedTask(calls, robot, max_steps=max_steps, succeeds_at=succeeds_at)
    teleop = None if script is None else LoggedTeleop(calls, script, clock)
    cell = Cell(name="arm", robot=robot, task=task, teleop=teleop)
    edge = make_config(pace=pace, **config)
    shared = make_shared(bytes(16))
    recorder = Recorder(shared.make_ring(card_of(cell), edge.ring_bytes), task=task.name)
    pacer, stops = Pacer(clock, robot.spec.rate_hz), list[bool]()
    policies: dict[str, SingleStep] = {"w1": ConstantPolicy(calls, 0.1), "w2": ConstantPolicy(calls, 0.2)}

    def load(folder: Path, *, seed: int) -> tuple[Version, SingleStep]:
        if str(folder) not in policies:
            raise StorageCorrupt(f"{folder} cannot be read")
        return version(int(str(folder)[1:])), policies[str(folder)]

    desk = Desk(shared, recorder, pacer, edge, idle=clock, cell=cell, stopping=lambda: bool(stops), load=load)
    made = Bench(
        calls=calls, clock=clock, robot=robot, task=task, cell=cell, shared=shared, recorder=recorder, pacer=pacer,
        desk=desk, stops=stops, policies=policies,
    )  # fmt: skip
    if lease:
        made.order(run="run", token=1, boot=BOOT, lease_until_s=1e9, last_step=NO_LIMIT, weights="w1", weights_number=1)
    try:
        yield made
    finally:
        os.close(shared.fd)


def version(number: int, schema: Schema = SCHEMA, **changes: Any) -> Version:  # noqa: ANN401
    """A manifest."""
    policy = PolicySpec(kind="mlp", action=COMMAND, settings={})
    fields = {"number": number, "sha256": f"{number:064x}", "size": 1, "schema": schema.digest, "policy": policy}
    return Version(**{**fields, "updates": 0, "incarnation": "i", **changes})


def make_config(**changes: Any) -> EdgeConfig:  # noqa: ANN401
    """An edge's configuration, valid and otherwise at its defaults."""
    fields: dict[str, Any] = {"name": "arm", "bundle": "b", "home": "/nowhere", "robot": {}, "task": {}}
    return EdgeConfig(**{**fields, "ring_bytes": 0, **changes})
