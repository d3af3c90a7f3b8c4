"""Examination: one cell, part by part, in the doctor's child process. What it says is plain data, as it finds it.

It says which stage comes next before it enters it, so that a driver that hangs is known by name. Parts in `skip` are
left closed (they hung before), parts in `done` are opened and not measured again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from zlib import crc32

from edge.doctor.camera import camera_rows
from edge.doctor.diagnosis import Result, Row, judged
from edge.doctor.measure import watch
from edge.doctor.motion import first_axis, hold, move, times_of_holding
from edge.doctor.robot import (
    ROBOT,
    emergency_stop_row,
    guard_row,
    holding_row,
    moving_rows,
    observation_row,
    silence_row,
    state_rows,
)
from edge.process import try_realtime
from hal.camera import Camera, Frame
from hal.cell import Cell
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence
from user_rl.clock import Clock, SystemClock
from user_rl.config import build
from user_rl.errors import HardwareError, SpecError
from user_rl.specs import Array

Said = dict[str, Any]
_POLL_S = 0.002  # a camera is asked so often whether it has a new frame
TOGETHER = "together"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What shall be examined, and how."""

    cell: dict[str, Any]  # a CellConfig's keys
    move: bool = False
    for_s: float = 3.0  # of measuring each part
    allow_no_silence_stop: bool = False
    skip: tuple[str, ...] = ()
    done: tuple[str, ...] = ()


def examine(argument: Mapping[str, Any], *, clock: Clock | None = None) -> Iterator[Said]:
    """Everything about the cell in `argument`, an Order as plain data."""
    order = build(Order, argument)
    if clock is None:  # in a process of its own, as control is in its
        clock = SystemClock()
        try_realtime()
    yield _stage(ROBOT, "making the cell")
    config = build(CellConfig, order.cell)
    cell = make_cell(config, name="doctor", clock=clock, seed=0)
    examination = Examination(cell, config, order, clock)
    try:
        yield from examination.run()
    finally:
        cell.close()


class Examination:
    """The parts of a cell in the order of the daemon's own opening."""

    def __init__(self, cell: Cell, config: CellConfig, order: Order, clock: Clock) -> None:
        self.cell, self.config, self.order, self.clock = cell, config, order, clock
        self._open: set[str] = set()

    def run(self) -> Iterator[Said]:
        """Robot, cameras, and all of them together."""
        spec = self.cell.robot.spec
        yield {"halt_command": list(spec.halt_command), "on_silence": str(spec.on_silence)}
        yield from self._part(ROBOT, self.cell.robot.open, self._robot)
        for name, camera in self.cell.cameras.items():
            yield from self._part(f"camera {name}", camera.open, partial(self._camera, name, camera))
        if self.cell.cameras and len(self._open) == 1 + len(self.cell.cameras) and TOGETHER not in self.order.skip:
            yield _stage(TOGETHER, "observing")
            yield from self._guarded(TOGETHER, self._together)
        yield _stage(ROBOT, "closing")
        self.cell.close()

    def _part(self, name: str, open_: Callable[[], None], look: Callable[[], Iterator[Said]]) -> Iterator[Said]:
        if name in self.order.skip:
            return
        yield _stage(name, "opening")
        began_s = self.clock.now_s()
        try:
            open_()
        except HardwareError as error:
            yield _row(_opened(name, None, str(error)))
            yield {"skip": name}
            return
        self._open.add(name)
        if name not in self.order.done:
            yield _row(_opened(name, self.clock.now_s() - began_s))
            yield from self._guarded(name, look)
            yield {"done": name}

    def _guarded(self, name: str, look: Callable[[], Iterator[Said]]) -> Iterator[Said]:
        try:
            yield from look()
        except (HardwareError, SpecError) as error:
            said, _, fix = str(error).rpartition("; ")
            yield _row(Row(about=name, check="reading", result=Result.FAIL, value=said or str(error), fix=fix))

    def _robot(self) -> Iterator[Said]:
        robot, spec = self.cell.robot, self.cell.robot.spec
        yield _row(silence_row(spec, allowed=self.order.allow_no_silence_stop))
        yield _row(guard_row(self.config.guard))
        yield _stage(ROBOT, "asking for the emergency stop")
        yield _row(emergency_stop_row(robot))
        yield _stage(ROBOT, "reading the state")
        values: list[Array] = []

        def read() -> float:
            state = robot.read()
            values.append(state.values)
            return state.stamp_s

        series = watch(read, self.clock, for_s=self.order.for_s, every_s=1.0 / spec.rate_hz)
        yield from map(_row, state_rows(spec, series, values))
        yield from self._command(values[-1])

    def _command(self, state: Array) -> Iterator[Said]:
        robot, spec = self.cell.robot, self.cell.robot.spec
        can_hold = hold(spec, state) is not None and (self.order.move or spec.on_silence is not OnSilence.NONE)
        yield _stage(ROBOT, "commanding")
        took_s = times_of_holding(robot, self.clock) if can_hold else None
        yield _row(holding_row(took_s, 1.0 / spec.rate_hz))
        axis = first_axis(spec)
        if self.order.move and can_hold and axis is not None:
            yield _stage(ROBOT, "moving")
            yield from map(_row, moving_rows(move(robot, self.clock, axis)))
        elif self.order.move:
            yield _row(Row(about=ROBOT, check="motion", result=Result.SKIP, value="no axis is both told and measured"))
        robot.halt()

    def _camera(self, name: str, camera: Camera) -> Iterator[Said]:
        about = f"camera {name}"
        yield _stage(about, "reading frames")
        sums: set[int] = set()
        newest: list[Frame] = []

        def read() -> float:
            frame = camera.read()
            if not newest or frame.stamp_s != newest[0].stamp_s:
                camera.spec.check(frame.pixels)
                newest[:] = [frame]
                sums.add(crc32(frame.pixels.tobytes()))
            return frame.stamp_s

        series = watch(read, self.clock, for_s=self.order.for_s, every_s=_POLL_S)
        uniform = bool(newest) and newest[0].pixels.min() == newest[0].pixels.max()
        told = getattr(camera, "config", None)  # a driver's; what has no rate must keep up with the robot
        wanted_hz = float(getattr(told, "rate_hz", 0.0) or self.cell.robot.spec.rate_hz)
        rows = camera_rows(about, series, wanted_hz=wanted_hz, pictures=len(sums), uniform=uniform)
        yield from map(_row, rows)

    def _together(self) -> Iterator[Said]:
        period_s = 1.0 / self.cell.robot.spec.rate_hz

        def observe() -> float:
            return min(self.cell.observe().stamps_s.values())

        series = watch(observe, self.clock, for_s=self.order.for_s, every_s=period_s)
        yield _row(observation_row(series, period_s))


def _opened(about: str, took_s: float | None, error: str = "") -> Row:
    said, _, fix = error.rpartition("; ")
    value = said or error if took_s is None else f"open in {took_s:.2f} s"
    return judged(about, "answers", holds=took_s is not None, value=value, allowed="", fix=fix)


def _stage(about: str, stage: str) -> Said:
    return {"about": about, "stage": stage}


def _row(row: Row) -> Said:
    return {"row": asdict(row)}
