"""A process that breaks its promise, and one that keeps it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.hal.remote.rig import ROOT

pytestmark = pytest.mark.slow
WORK = """
import sys, time
from hal.remote.watch import watch
from user_rl.process import set_up_logging
def work(pulse, stopping):
    pulse.name(("touch", sys.argv[1]))
    {body}
set_up_logging("serve")
sys.exit(watch(work))
"""


def watched(tmp_path: Path, body: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", WORK.format(body=body), str(tmp_path / "halted")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_a_child_that_hangs_is_killed_and_its_robot_halted(tmp_path: Path) -> None:
    done = watched(tmp_path, "pulse.promise(0.3); time.sleep(50)")
    assert done.returncode == 1
    assert (tmp_path / "halted").exists()
    assert "is silent for too long; it is killed" in done.stderr


def test_a_child_that_keeps_its_promises_is_left_alone(tmp_path: Path) -> None:
    done = watched(tmp_path, "[(pulse.promise(5.0), time.sleep(0.05)) for _ in range(10)]; return 3")
    assert done.returncode == 3
    assert not (tmp_path / "halted").exists()


def test_a_child_that_fails_says_so(tmp_path: Path) -> None:
    done = watched(tmp_path, "raise RuntimeError('a bug')")
    assert done.returncode == 1
    assert "RuntimeError: a bug" in done.stderr
