"""cloud.edges: children that are started again with a growing pause, stopped kindly, and die with their parent.

The children here are real processes: edge daemons whose configuration is refused at once, and a parent that is killed.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud.edges import FIRST_PAUSE_S, LONGEST_PAUSE_S, SimulatedEdges
from cloud.run import RunFolder
from user_rl.clock import FakeClock
from user_rl.errors import HardwareError

pytestmark = pytest.mark.slow


def wait_for(condition: "object", what: str) -> None:
    assert callable(condition)
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within 30 s")


def gone(pid: int) -> bool:
    """Whether a child's every thread has ended; it is left to be waited for. A zombie may still have threads."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def test_a_dead_daemon_is_started_again_after_a_pause_that_grows(tmp_path: Path) -> None:
    clock, folder = FakeClock(), RunFolder(tmp_path)
    edges = SimulatedEdges(folder, {"sim0": {}}, clock=clock)
    edges.start()
    pause_s, pids = FIRST_PAUSE_S, []
    for _ in range(3):
        pids.append(edges.pids()["sim0"])
        os.kill(pids[-1], signal.SIGKILL)
        wait_for(lambda: gone(pids[-1]), "the end of a killed daemon")
        edges.watch()
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        clock.advance(pause_s - 0.01)
        edges.watch()
        assert edges.pids()["sim0"] == pids[-1]
        clock.advance(0.02)
        edges.watch()
    assert len({*pids, edges.pids()["sim0"]}) == 4
    edges.stop(timeout_s=20)


def test_a_daemon_that_would_end_the_same_way_stays_down_and_its_last_words_are_told(tmp_path: Path) -> None:
    clock = FakeClock()
    edges = SimulatedEdges(RunFolder(tmp_path), {"sim0": {"no_such_key": 1}}, clock=clock)
    edges.start()
    pid = edges.pids()["sim0"]
    wait_for(lambda: gone(pid), "the end of a daemon with a wrong key")
    for _ in range(2):
        with pytest.raises(HardwareError, match="no_such_key: no such key"):
            edges.watch()
        clock.advance(LONGEST_PAUSE_S)
    assert edges.pids()["sim0"] == pid
    edges.stop(timeout_s=20)


def test_stopping_ends_every_child(tmp_path: Path) -> None:
    edges = SimulatedEdges(RunFolder(tmp_path), {"a": {}, "b": {}}, clock=FakeClock())
    edges.start()
    pids = edges.pids().values()
    edges.stop(timeout_s=20)
    assert all(gone(pid) for pid in pids)
    assert edges.pids() == {}


def test_children_end_when_their_parent_is_killed() -> None:
    child_code = (
        "import os, sys, time; from edge.process import become_child\n"
        "become_child(int(sys.argv[1])); print(os.getpid(), flush=True); time.sleep(300)"
    )
    code = (
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code, child_code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_for(lambda: gone(child), "the end of the killed parent's child")
