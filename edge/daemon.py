"""halt: the daemon's first process. It makes the shared memory, starts control and link, and watches control.

A control that died, that is silent for longer than it promised, or that does not carry out an emergency stop at once
(edge.stop), is killed and the robot's out-of-band halt command is run, if it has one. link is started again always;
control if the configuration says so. After a fault that a person must look at it is started too, to say so: it does not
open the robot. A configured tunnel is a third child, started again always; its end touches nobody. This process does
nothing else, imports nothing heavy and touches no device, so that it lives.
If it is killed itself, the kernel tells its children, which stop safely by themselves; the folder stays locked until
they have ended, and link does for a control that died with it what this process would have done (edge.last).
"""

import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edge.config import EdgeConfig
from edge.fault import latch, read_fault
from edge.last import halt_robot
from edge.logs import set_up_logs
from edge.notify import Notifier
from edge.process import Exit, keep_off
from edge.shared import Shared, make_shared
from edge.stop import ANSWER_S, Outcome
from user_rl.config import build
from user_rl.files import FileLock, write_atomically

log = logging.getLogger(__name__)

POLL_S = 0.02  # between two looks at the pulse
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
KILLED_PAUSE_S = 0.1  # after a signal: the next one may well live
LONGEST_NET_PAUSE_S = 1.0  # of link and tunnel: they have pauses of their own towards the other side
STEADY_S = 5.0  # a child that lived so long starts with the short pause again
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # a small matrix product must not wake the others


@dataclass(frozen=True)
class Programs:
    """What the children run; a file descriptor, a configuration and the parent's id follow."""

    control: tuple[str, ...] = (sys.executable, "-m", "edge.control")
    link: tuple[str, ...] = (sys.executable, "-m", "edge.link")
    tunnel: tuple[str, ...] = (sys.executable, "-m", "edge.tunnel")


@dataclass
class Child:
    """One of them, alive or waiting for its next start."""

    name: str
    argv: list[str]
    fds: tuple[int, ...]
    process: "subprocess.Popen[bytes] | None" = None
    started_s: float = 0.0
    again_s: float = 0.0  # when to start it, while there is no process
    pause_s: float = 0.0  # the last one
    longest_s: float = LONGEST_PAUSE_S

    def start(self) -> None:
        """Starts it now."""
        self.process = subprocess.Popen(self.argv, pass_fds=self.fds, env=os.environ | ONE_THREAD)
        self.started_s = time.monotonic()

    def ended(self) -> int | None:
        """The exit code of a process that has just ended, else None."""
        code = None if self.process is None else self.process.poll()
        if code is not None:
            self.process = None
            steady = time.monotonic() - self.started_s > STEADY_S
            first_s = KILLED_PAUSE_S if code < 0 else FIRST_PAUSE_S
            self.pause_s = first_s if steady else min(max(first_s, 2 * self.pause_s), self.longest_s)
            self.again_s = time.monotonic() + self.pause_s
        return code

    def due(self) -> bool:
        return self.process is None and time.monotonic() >= self.again_s

    def stop(self, within_s: float) -> int:
        """SIGTERM, then SIGKILL after `within_s`; returns the exit code."""
        if self.process is None:
            return Exit.CLEAN
        self.process.terminate()
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            log.error("%s did not end within %.0f s and is killed", self.name, within_s)
            self.process.kill()
            return self.process.wait()


def run(tree: Mapping[str, Any], *, stopping: Callable[[], int], programs: Programs = Programs()) -> int:
    """Runs the daemon with the configuration in `tree` until `stopping()`; returns an `Exit`."""
    config = build(EdgeConfig, tree)
    config.root.mkdir(parents=True, exist_ok=True)
    keep_off(config.cpus)
    lock = FileLock(config.root / "lock", wait_s=config.stop_s + config.drain_s)
    shared = make_shared(os.urandom(16))
    set_up_logs("halt", config.name, config.log, run=shared.run)
    try:
        path = config.root / "config.json"
        write_atomically(path, json.dumps(tree, indent=1).encode(), mode=0o600)
        tail = ["--shared", str(shared.fd), "--config", str(path), "--parent", str(os.getpid())]
        fds = (*shared.fds, lock.fd)
        control = Child("control", [*programs.control, *tail], fds)
        with _line(config) as line:
            link = Child("link", [*programs.link, *tail, *_option(line[:1])], (*fds, *line[:1]))
            tunnel = Child("tunnel", [*programs.tunnel, *tail, *_option(line[1:])], (*fds, *line[1:]))
            link.longest_s = tunnel.longest_s = LONGEST_NET_PAUSE_S
            return Daemon(config, shared, control, link, *([tunnel] if line else [])).run(stopping)
    finally:
        shared.close()
        lock.release()


@contextmanager
def _line(config: EdgeConfig) -> Iterator[tuple[int, ...]]:
    """The two ends of what link and the tunnel say to each other; none where there is no tunnel."""
    if config.tunnel.direct:
        yield ()
        return
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ends[0], ends[1]:
        yield ends[0].fileno(), ends[1].fileno()


def _option(line: tuple[int, ...]) -> list[str]:
    return [argument for fd in line for argument in ("--line", str(fd))]


class Daemon:
    """The watch over the children. One thread."""

    def __init__(self, config: EdgeConfig, shared: Shared, control: Child, link: Child, *others: Child) -> None:
        self._config, self._shared, self._control, self._link = config, shared, control, link
        self._stop_since_s: float | None = None  # when the emergency stop that waits was first seen
        self._notifier = Notifier()
        self._children = (control, link, *others)  # the others are started again always

    def run(self, stopping: Callable[[], int]) -> int:
        """Watches until told to stop or until a child says that going on is pointless; stops both, control first."""
        code: int | None = None
        try:
            for child in self._children:
                child.start()
            self._notifier.ready()
            while code is None and not stopping():
                self._wait()
                self._notifier.turn(time.monotonic(), self._words)
                code = self._watch()
        finally:
            self._stop()
        return Exit.CLEAN if code is None else code

    def _words(self) -> str:
        report = self._shared.report.read()
        if report is None:
            return "starting"
        return f"{report.state}{report.reason and ': '}{report.reason}, episode {report.episode}, step {report.step}"

    def _wait(self) -> None:
        """Until a child ends, at most until the next look at the pulse."""
        poll = select.poll()
        fds = [os.pidfd_open(c.process.pid) for c in self._children if c.process is not None]
        for fd in fds:
            poll.register(fd, select.POLLIN)
        try:
            poll.poll(POLL_S * 1e3)
        finally:
            for fd in fds:
                os.close(fd)

    def _watch(self) -> int | None:
        self._check_pulse()
        self._check_stop()
        for child in self._children:
            code = child.ended()
            if code is not None and child is self._control and code != Exit.CLEAN:
                self._halt_robot()
            if code is not None and not self._again(child, code):
                return Exit.CRASH if code < 0 else code
            if child.due():
                child.start()
        return None

    def _check_pulse(self) -> None:
        alive_until_s, process = self._shared.pulse.alive_until_s, self._control.process
        late_s = time.monotonic() - alive_until_s
        if process is not None and process.poll() is None and alive_until_s > 0 and late_s > 0:
            log.error("control is silent and %.2f s over its time; it is killed and the robot halted", late_s)
            process.kill()
            self._shared.pulse.promise(0.0)
            self._halt_robot()  # at once; its end is noticed, and the robot halted again, at the next look

    def _check_stop(self) -> None:
        """An emergency stop that control has not carried out in time is carried out here."""
        stop, now_s = self._shared.stop, time.monotonic()
        if not stop.pending or not stop.robot_open:
            self._stop_since_s = None
            return
        self._stop_since_s = now_s if self._stop_since_s is None else self._stop_since_s
        process = self._control.process
        if process is not None and process.poll() is None:
            if now_s - self._stop_since_s < ANSWER_S:
                return
            log.error("control has not halted within %.1f s of an emergency stop; it is killed", ANSWER_S)
            process.kill()
        self._halt_robot()
        self._latch(stop.text)

    def _latch(self, reason: str) -> None:
        card = self._shared.card.read()
        try:
            latch(self._config.root, card.model if card else "", reason)
        except OSError as error:
            log.error("the fault cannot be written down: %s; free space before anybody starts this robot again", error)

    def _again(self, child: Child, code: int) -> bool:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
        if child is self._control:
            self._shared.pulse.promise(0.0)
            again = self._control_again(code)
        else:
            again = child is not self._link or code != Exit.CONFIG
        if again:
            log.warning("%s ended with %s, again in %.1f s", child.name, how, child.pause_s)
        else:
            log.error("%s ended with %s; the daemon stops", child.name, how)
        return again

    def _control_again(self, code: int) -> bool:
        if code in (Exit.CLEAN, Exit.CONFIG):
            return False
        if code == Exit.FAULT or self._waits_for_a_person():  # it may have been killed at an emergency stop
            return self._waits_for_a_person()
        return self._config.reopens if code == Exit.HARDWARE else self._config.restarts

    def _waits_for_a_person(self) -> bool:
        """Whether the fault is on the disk, so that control will not open the robot before it is cleared."""
        return not self._config.free and read_fault(self._config.root) is not None

    def _halt_robot(self) -> None:
        """Control is gone, or about to be: an emergency stop that waits is settled by what comes of this."""
        outcome, stop = halt_robot(self._shared.card.read()), self._shared.stop
        if stop.robot_open:
            stop.settle(outcome)
            stop.robot_open = outcome is Outcome.FAILED

    def _stop(self) -> None:
        self._notifier.stopping(self._config.end_s)
        if self._control.stop(self._config.stop_s) != Exit.CLEAN:
            self._halt_robot()
        for child in self._children[1:]:  # link first: it drains through the tunnel
            child.stop(self._config.drain_s + self._config.stop_s)
