"""Watch: a process that does nothing but look after the one that owns a robot.

The child promises when it will be heard again; one that dies or breaks its promise is killed, and the robot's
out-of-band halt command is run, if it has one. If this process is killed itself, the kernel tells the child, which
stops by itself.
"""

import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import NoReturn

from user_rl.process import StopFlag, become_child

log = logging.getLogger(__name__)

FIRST_S = 120.0  # the child imports, composes, and makes its devices
HALT_COMMAND_S = 10.0
STOP_S = 20.0
READ_BYTES = 2**16


class Pulse:
    """The child's side of the pipe: what halts its robot, and when it will be heard again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def name(self, halt_command: tuple[str, ...]) -> None:
        """Once, before anything moves."""
        self._write(list(halt_command))

    def promise(self, within_s: float) -> None:
        """The next promise comes within so many seconds."""
        self._write(within_s)

    def _write(self, value: list[str] | float) -> None:
        with contextlib.suppress(BrokenPipeError):  # the watch is gone; SIGTERM is on its way
            os.write(self._fd, json.dumps(value).encode() + b"\n")


def watch(work: Callable[[Pulse, StopFlag], int]) -> int:
    """Runs `work` in a child until it ends or this process is told to stop; returns the child's exit code."""
    parent, (reader, writer) = os.getpid(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(work, Pulse(writer), parent)
    os.close(writer)
    stopping = StopFlag(signal.SIGTERM, signal.SIGINT)
    return _Watch(pid, reader, stopping).run()


class _Watch:
    """The parent's side."""

    def __init__(self, pid: int, reader: int, stopping: StopFlag) -> None:
        self._pid, self._reader, self._stopping = pid, reader, stopping
        self._halt_command: list[str] = []
        self._due_s = time.monotonic() + FIRST_S
        self._buffer = b""

    def run(self) -> int:
        told = False
        while self._listen():
            if self._stopping() and not told:
                told, self._due_s = True, time.monotonic() + STOP_S
                os.kill(self._pid, signal.SIGTERM)
            if time.monotonic() > self._due_s:
                log.error("the process that owns the robot is silent for too long; it is killed")
                os.kill(self._pid, signal.SIGKILL)
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._reader)
        if code < 0:
            self._halt(code)
        return code if code >= 0 else 1

    def _listen(self) -> bool:
        """Takes in what the child says; False when it has ended."""
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if not poll.poll(100):
            return True
        data = os.read(self._reader, READ_BYTES)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            value = json.loads(line)
            if isinstance(value, list):
                self._halt_command = value
            else:
                self._due_s = time.monotonic() + value
        return bool(data)

    def _halt(self, code: int) -> None:
        log.error("the process that owns the robot was ended by %s", signal.Signals(-code).name)
        if not self._halt_command:
            return
        log.error("halting the robot with %s", " ".join(self._halt_command))
        try:
            subprocess.run(self._halt_command, timeout=HALT_COMMAND_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("THE ROBOT MAY STILL MOVE: %s; use the emergency stop", error)


def _child(work: Callable[[Pulse, StopFlag], int], pulse: Pulse, parent: int) -> NoReturn:
    code = 1
    try:
        stopping = StopFlag()
        become_child(parent)
        code = work(pulse, stopping)
    except Exception:  # the outermost function of a process
        log.exception("the server failed")
    finally:
        logging.shutdown()
        os._exit(code)
