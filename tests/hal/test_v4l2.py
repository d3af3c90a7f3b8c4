"""OpenCV's own V4L2 backend against the kernel's system calls, answered by v4l2_device.c in a child process."""

import builtins
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hal.v4l2 import V4l2Camera, V4l2Config
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, HardwareError

HERE = Path(__file__).parent
PRELUDE = """
import sys, threading
import numpy as np
from hal.kits import check_camera
from hal.v4l2 import V4l2Camera, V4l2Config
from user_rl.clock import SystemClock
from user_rl.errors import HardwareError, SensorStale

clock = SystemClock()

def made(**changes):
    keys = dict(path=sys.argv[1], width=64, height=48, rate_hz=30.0, fourcc="YUYV", max_age_s=0.5, open_s=10.0)
    return V4l2Camera(V4l2Config(**(keys | changes)), name="front", clock=clock)

def until(error, camera):
    deadline_s = clock.now_s() + 20
    while clock.now_s() < deadline_s:
        try:
            camera.read()
        except HardwareError as found:
            if type(found) is error:
                return found
        threading.Event().wait(0.005)
    raise AssertionError(f"no {error}")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cv2", exc_type=ImportError)
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the emulated device")
    out = tmp_path_factory.mktemp("v4l2") / "device.so"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", out, HERE / "v4l2_device.c", "-ldl"], check=True
    )
    return out


def seen(library: Path, path: Path, code: str, *, end: str = "gone", frames: int = 10**6, hz: int = 30) -> str:
    """What `code` prints in a process that has the camera at `path`."""
    path.touch()
    camera = {"CAMERA_PATH": str(path), "CAMERA_SIZE": "64x48", "CAMERA_HZ": str(hz), "CAMERA_FRAMES": str(frames)}
    env = os.environ | camera | {"CAMERA_END": end, "LD_PRELOAD": str(library), "PYTHONPATH": str(HERE.parents[1])}
    argv = [sys.executable, "-c", PRELUDE + code, str(path)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_v4l2_camera_keeps_the_camera_contract(library: Path, tmp_path: Path) -> None:
    assert seen(library, tmp_path / "video0", "check_camera(made); print('kept')") == "kept\n"


@pytest.mark.slow
def test_frames_come_in_rgb_in_order_and_with_the_kernels_stamps(library: Path, tmp_path: Path) -> None:
    code = """
camera = made()
camera.open()
frames = [camera.read()]
while len(frames) < 10:
    frame = camera.read()
    if frame is not frames[-1]:
        frames.append(frame)
        assert clock.now_s() - frame.stamp_s < 0.4
    threading.Event().wait(0.002)
camera.close()
stamps = np.array([f.stamp_s for f in frames])
levels = [int(f.pixels[0, 0, 0]) for f in frames]
assert (np.diff(stamps) > 0).all(), stamps
assert levels == sorted(levels) and levels[-1] > levels[0], levels
print(frames[0].pixels.shape, frames[0].pixels.dtype, round(float(np.median(np.diff(stamps))), 2))
"""
    assert seen(library, tmp_path / "video0", code) == "(48, 64, 3) uint8 0.03\n"


@pytest.mark.slow
def test_a_camera_that_is_pulled_out_says_so(library: Path, tmp_path: Path) -> None:
    code = """
camera = made()
camera.open()
print(until(HardwareError, camera))
camera.close()
try:
    camera.open()
except HardwareError as error:
    print(error)
"""
    path = tmp_path / "video0"
    gone, refused = seen(library, path, code, frames=15).splitlines()
    assert gone == f"{path} is gone; look at cable and port, then open it again"
    assert refused.startswith(f"no {path}, here: ")


@pytest.mark.slow
def test_a_camera_that_stops_sending_is_stale_and_its_end_is_not_waited_for(library: Path, tmp_path: Path) -> None:
    code = """
camera = made(max_age_s=0.2)
camera.open()
print(until(SensorStale, camera))
start_s = clock.now_s()
camera.close()
print(clock.now_s() - start_s < 5, flush=True)
import os; os._exit(0)  # not waiting for the thread that is in OpenCV
"""
    stale, ended = seen(library, tmp_path / "video0", code, end="stall", frames=5).splitlines()
    assert "video0's newest frame is 0.2" in stale
    assert ended == "True"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "wanted"),
    [("width=1280, height=720", "YUYV 1280 x 720 at 30"), ("rate_hz=60.0", "YUYV 64 x 48 at 60"),
     ("fourcc='MJPG'", "MJPG 64 x 48 at 30")],
)  # fmt: skip
def test_what_the_kernel_gave_instead_is_refused(library: Path, tmp_path: Path, changes: str, wanted: str) -> None:
    code = f"""
try:
    made({changes}).open()
except HardwareError as error:
    print(error)
"""
    path = tmp_path / "video0"
    said = seen(library, path, code)
    assert said.startswith(f"{path} gives YUYV 64 x 48 at 30 Hz, wanted {wanted} Hz; v4l2-ctl -d {path}"), said


@pytest.mark.slow
def test_a_rate_of_nearly_what_was_asked_is_the_rate(library: Path, tmp_path: Path) -> None:
    assert seen(library, tmp_path / "video0", "camera = made(rate_hz=29.97); camera.open(); camera.close()") == ""


@pytest.mark.slow
def test_a_camera_that_another_program_holds_is_refused(library: Path, tmp_path: Path) -> None:
    code = """
first = made()
first.open()
try:
    made().open()
except HardwareError as error:
    print(error)
first.close()
"""
    said = seen(library, tmp_path / "video0", code)
    assert said.endswith("video0 does not open as a camera; see what holds it with fuser -v\n")


def test_a_path_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    camera = V4l2Camera(V4l2Config(path=str(tmp_path / "none")), name="front", clock=FakeClock())
    with pytest.raises(HardwareError, match=r"no .*/none, here: .*; look at cable and path"):
        camera.open()
    with pytest.raises(HardwareError, match=r"observation\.images\.front is not open"):
        camera.read()


def test_a_fourcc_has_four_characters() -> None:
    with pytest.raises(ValueError, match="fourcc = 'MJPEG', allowed four characters like MJPG or YUYV"):
        V4l2Config(fourcc="MJPEG")


def test_without_opencv_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install 'user-rl\[opencv\]'"):
        V4l2Camera(V4l2Config(), name="front", clock=FakeClock())
