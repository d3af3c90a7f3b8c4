"""Isolation: a function that may hang, or crash in a vendor's library, runs in a child process with a deadline.

The function is named `module:function`, takes one plain argument and yields plain data; whatever it prints goes to
stderr. The child ends with its parent, and with everything that it has started.
"""

import contextlib
import ctypes
import importlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from user_rl.errors import ConfigError, HardwareError, UserRlError

Plain = Any  # what JSON holds

_PR_SET_PDEATHSIG = 1
_TAIL_BYTES = 300  # of what a child that crashed had printed


class Hung(HardwareError):
    """The child said nothing for too long and was killed."""


def listen(function: str, argument: Plain, *, within_s: float) -> Iterator[Plain]:
    """What `function(argument)` yields, each within `within_s` of the one before.

    Raises Hung, the ConfigError or HardwareError that the function raised, or HardwareError if the child crashed.
    """
    argv = [sys.executable, "-m", "hal.isolation", function, str(os.getpid())]
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        yield from _heard(child, argument, within_s)
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and so have those that it started
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def _heard(child: "subprocess.Popen[bytes]", argument: Plain, within_s: float) -> Iterator[Plain]:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it crashed before: its end says so
        child.stdin.write(json.dumps(argument).encode())
        child.stdin.close()
    printed = bytearray()
    for line in _lines(child, printed, within_s):
        message = json.loads(line)
        if "error" in message:
            raise (ConfigError if message["kind"] == ConfigError.__name__ else HardwareError)(message["error"])
        if "end" in message:
            return
        yield message["said"]
    code = child.wait()
    how = signal.Signals(-code).name if code < 0 else f"code {code}"
    last = bytes(printed).decode(errors="replace").strip().splitlines()[-1:]
    raise HardwareError(f"the process that looked ended with {how}{f': {last[0]}' if last else ''}; see its library")


def _lines(child: "subprocess.Popen[bytes]", printed: bytearray, within_s: float) -> Iterator[bytes]:
    """Whole lines of the child's stdout until its end; the newest of its stderr goes to `printed`."""
    assert child.stdout is not None
    assert child.stderr is not None
    out, err = child.stdout.fileno(), child.stderr.fileno()
    open_fds, rest = {out, err}, b""
    deadline_s = time.monotonic() + within_s
    while open_fds:
        left_s = deadline_s - time.monotonic()
        ready = select.select(list(open_fds), [], [], left_s)[0] if left_s > 0 else []
        if not ready:
            raise Hung(f"no answer within {within_s:g} s")
        for fd in ready:
            data = os.read(fd, 2**16)
            if not data:
                open_fds.discard(fd)
            elif fd == err:
                printed[:] = (printed + data)[-_TAIL_BYTES:]
            else:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield line
                    deadline_s = time.monotonic() + within_s


def main(argv: list[str]) -> int:
    """The child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(argv[1]):  # the parent died before the line above
        return 1
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not be taken for an answer
    logging.basicConfig(stream=sys.stderr)
    try:
        module, _, name = argv[0].partition(":")
        for said in getattr(importlib.import_module(module), name)(json.load(sys.stdin)):
            print(json.dumps({"said": said}), file=out, flush=True)  # its only way to answer
        last = {"end": True}
    except UserRlError as error:
        last = {"error": str(error), "kind": type(error).__name__}
    print(json.dumps(last), file=out, flush=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # no thread of a driver may delay the end
