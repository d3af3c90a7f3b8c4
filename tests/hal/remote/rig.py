"""A real server process, or a server in a thread with a fake whose inside can be seen."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hal.remote.config import RemoteConfig
from hal.remote.door import INVITATION, Door
from hal.remote.parts import Part
from hal.remote.server import Server, ServerConfig
from user_rl.clock import SystemClock

ROOT = Path(__file__).parents[3]
LONG_S = 30.0  # of waiting for what must come


def until(true: Callable[[], bool], what: str = "it never came true") -> None:
    end_s = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < end_s, what
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def serving(home: Path, *overrides: str) -> Iterator["subprocess.Popen[str]"]:
    """`python -m hal.serve`, once it can be reached."""
    command = [sys.executable, "-W", "error", "-m", "hal.serve", f"home={home}", *overrides]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "the invitation is" in line:
                break
        else:
            raise AssertionError(f"hal.serve ended with {process.wait()}")
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=LONG_S)


def remote(home: Path, **changed: object) -> RemoteConfig:
    return RemoteConfig(invitation=str(home / INVITATION), **changed)  # type: ignore[arg-type]


class ServerThread:
    """A server of these parts in this process."""

    def __init__(self, home: Path, parts: dict[str, Part], **config: float) -> None:
        self.home, self._stop = home, threading.Event()
        self.door = Door(home)
        settings = ServerConfig(poll_s=0.01, **config)
        self.server = Server(parts, self.door, config=settings, clock=SystemClock())
        self.door.invite(self.server.address)
        self.thread = threading.Thread(target=self.server.run, args=(self._stop.is_set,))
        self.thread.start()

    def close(self) -> None:
        self._stop.set()
        self.thread.join(LONG_S)
        self.door.close()
