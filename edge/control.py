"""control: the process that owns the robot. `python -m edge.control`, started by edge.daemon.

It makes the cell, the ring and the loop, runs until SIGTERM, and closes the cell, which halts the robot, on every way
out. Its exit code says whether it may be started again.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from edge.config import EdgeConfig, Realtime
from edge.desk import Desk
from edge.fault import latch, read_fault
from edge.inference.remote import make_remote
from edge.loading import at_once, beside, tried
from edge.logs import set_up_logs
from edge.loop import control
from edge.orders import Card, Report, State
from edge.pacer import Pacer
from edge.process import Exit, StopFlag, become_child, end_process, pin, set_up_logging, try_realtime
from edge.recorder import Recorder
from edge.shared import Shared
from edge.stop import ListeningClock, Outcome
from hal.axes import control_modes
from hal.cell import Cell
from hal.make import CellConfig, make_cell
from hal.robot import OnSilence
from user_rl.clock import Clock, SystemClock
from user_rl.config import build
from user_rl.errors import ConfigError, HardwareError, RobotFault, SpecError, UserRlError
from user_rl.rows import make_schema

log = logging.getLogger(__name__)

MakeCell = Callable[[EdgeConfig, Clock], Cell]
SWITCH_INTERVAL_S = 0.0005


def cell_from_config(config: EdgeConfig, clock: Clock) -> Cell:
    """The cell that the configuration names."""
    parts = CellConfig(
        robot=config.robot, task=config.task, cameras=config.cameras, teleop=config.teleop, guard=config.guard,
        layout=config.layout,
    )  # fmt: skip
    return make_cell(parts, name=config.name, clock=clock, seed=config.seed, background=not config.free)


def main(argv: list[str] | None = None, *, make: MakeCell = cell_from_config) -> int:
    """Runs until SIGTERM; returns an `Exit`."""
    parser = argparse.ArgumentParser(prog="python -m edge.control")
    parser.add_argument("--shared", type=int, required=True, help="file descriptor of the shared memory")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True, help="process id of the daemon")
    args = parser.parse_args(argv)
    stopping = StopFlag()
    become_child(args.parent)
    set_up_logging("control")
    shared = Shared(args.shared)
    shared.control_pid = os.getpid()
    try:
        run(shared, build(EdgeConfig, json.loads(args.config.read_text())), stopping, make)
    except Exception as error:  # noqa: BLE001  # the outermost function: it becomes one line and an exit code
        return _end(shared, error)
    shared.pulse.promise(0.0)
    return Exit.CLEAN


def run(shared: Shared, config: EdgeConfig, stopping: Callable[[], bool], make: MakeCell) -> None:
    """Opens the cell and runs the loop over it; closes it whatever happens."""
    stop = shared.stop
    stop.robot_open = False  # whatever a predecessor had open: this one has not
    clock, idle = ListeningClock(config.clock(), stop), ListeningClock(SystemClock(), stop)
    set_up_logs("control", config.name, config.log, run=shared.run)
    shared.pulse.promise(idle.now_s() + config.reset_s)
    cell = make(config, clock)
    check_silence(cell, config)
    ring = shared.make_ring(card_of(cell), config.ring_bytes)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    pin(config.cpus)
    if config.realtime is Realtime.AUTO and not config.free:
        try_realtime()
    recorder, pacer = Recorder(ring, task=cell.task.name), Pacer(clock, cell.robot.spec.rate_hz)
    desk = Desk(
        shared, recorder, pacer, config, idle=idle, cell=cell, stopping=stopping, load=tried(cell),
        start=at_once if config.free else beside,
    )  # fmt: skip
    desk.far = make_remote(shared, ring.schema, config, idle)
    try:
        if not may_open(config, desk, shared):
            return
        cell.open()
        log.info("%s is open: %s at %g Hz, %s pace", config.name, cell.robot.spec.model, cell.robot.spec.rate_hz,
                 config.pace)  # fmt: skip
        control(cell, desk, recorder, pacer)
        desk.tell(State.STOPPED)
    except (RobotFault, SpecError) as error:
        latch(config.root, cell.robot.spec.model, str(error))
        raise
    finally:
        stop.deaf = True
        cell.close()  # which halts the robot first
        stop.settle(Outcome.HALTED)
        stop.robot_open = False


def may_open(config: EdgeConfig, desk: Desk, shared: Shared) -> bool:
    """Says that the robot is about to be opened, before it looks for a fault: link latches one before it looks whether
    the robot is open, so that an emergency stop is never between the two. False: control is to stop."""
    while True:
        shared.stop.robot_open = True
        shared.stop.check()
        if read_fault(config.root) is None:
            return True
        shared.stop.robot_open = False
        if not faultless(config, desk):
            return False


def faultless(config: EdgeConfig, desk: Desk) -> bool:
    """Waits, with the robot closed, while a latched fault is not cleared; False: control is to stop.

    In free pace, where nobody stands beside the robot, raises RobotFault at once.
    """
    fault = read_fault(config.root)
    if fault is None:
        return True
    if config.free:
        raise RobotFault(f"{fault}")
    log.error("%s: not opened: %s --home %s", config.name, fault, config.root)
    return desk.stand_still(lambda: str(read_fault(config.root) or ""))


def check_silence(cell: Cell, config: EdgeConfig) -> None:
    """Refuses a robot that nothing would stop, unless the configuration says that this is known."""
    spec = cell.robot.spec
    if spec.on_silence is OnSilence.OUT_OF_BAND and not spec.halt_command:
        raise ConfigError(f"{spec.model} is halted out of band and names no halt_command; give its spec one")
    if spec.on_silence is OnSilence.NONE and not config.allow_no_silence_stop:
        raise ConfigError(
            f"{spec.model} goes on moving when commands stop (on_silence = none), allowed stops or out_of_band; "
            "give it a halt command, or set allow_no_silence_stop=true beside an emergency stop within reach"
        )


def card_of(cell: Cell) -> Card:
    """What the cell is, for link and halt."""
    spec = cell.robot.spec
    return Card(
        schema=make_schema(cell.observation, cell.action).encoded, model=spec.model, rate_hz=spec.rate_hz,
        on_silence=spec.on_silence, halt_command=spec.halt_command, cameras=tuple(sorted(cell.cameras)),
        control_modes=control_modes(spec.command), teleop=type(cell.teleop).__name__ if cell.teleop else "",
    )  # fmt: skip


def exit_of(error: Exception) -> Exit:
    """What an error means for whoever might start control again."""
    if isinstance(error, ConfigError):
        return Exit.CONFIG
    if isinstance(error, RobotFault | SpecError):
        return Exit.FAULT
    return Exit.HARDWARE if isinstance(error, HardwareError) else Exit.CRASH


def _end(shared: Shared, error: Exception) -> Exit:
    code = exit_of(error)
    if isinstance(error, UserRlError):
        log.error("%s", error)
    else:
        log.error("control failed", exc_info=error)
    old = shared.report.read() or Report()
    fields = {name: getattr(old, name) for name in Report.__struct_fields__}
    shared.report.post(Report(**{**fields, "state": State.FAULT, "reason": f"{error}"[:500]}))
    shared.pulse.promise(0.0)
    return code


if __name__ == "__main__":
    end_process(main())
