"""Pictures of the simulated cell. Tests that draw are marked gl and skipped only where no library can draw at all."""

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from hal.cell import Cell
from hal.kits import check_camera
from hal.make import STORE, CellConfig, make_cell
from hal.sim import camera as sim_camera
from hal.sim.camera import Gl, SimCamera, SimCameraConfig, View
from user_rl.clock import FakeClock, FreeRunningClock
from user_rl.errors import HardwareError
from user_rl.specs import Array

IMAGES = "observation.images"
SAYS = (  # what opening a cell with cameras ends in
    "from tests.hal.sim.test_camera import make\nfrom user_rl.errors import HardwareError\n"
    "try:\n    make().open()\nexcept HardwareError as error:\n    print(error)"
)
ROOT = Path(__file__).parents[3]


def make(robot: str = "panda_sim", *, task: str = "peg_insertion", **camera: Any) -> Cell:  # noqa: ANN401
    cameras = {name: {**tree, **camera} for name, tree in STORE["cameras"]["two_sim"].items()}
    config = CellConfig(robot={"name": robot}, task={"name": task}, cameras=cameras, teleop={"name": "scripted"})
    return make_cell(config, name="cell", clock=FreeRunningClock(), seed=1)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a process of its own, where no GL library has been chosen yet."""
    kept = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=kept | environment, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def backend() -> str | None:
    """The library that draws on this machine."""
    code = "from tests.hal.sim.test_camera import make\ncell = make()\ncell.open()\ncell.observe()\ncell.close()"
    named = os.environ.get("MUJOCO_GL", "")
    candidates = [named] if named in ("egl", "osmesa") else ["egl", "osmesa"]
    return next((library for library in candidates if python(code, MUJOCO_GL=library).returncode == 0), None)


@pytest.fixture(scope="module")
def _can_draw() -> None:
    library = backend()
    if library is None:
        pytest.skip("neither EGL nor OSMesa draws here")
    os.environ["MUJOCO_GL"] = library


@pytest.fixture
def cell(_can_draw: None) -> Iterator[Cell]:
    cell = make()
    cell.open()
    yield cell
    cell.close()


def pictures(cell: Cell) -> tuple[Array, Array]:
    values = cell.observe().values
    return values[f"{IMAGES}.front"], values[f"{IMAGES}.wrist"]


def is_orange(picture: Array) -> Array:
    """Where the peg is seen."""
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    orange: Array = (red > 2 * green) & (green > blue)
    return orange


@pytest.mark.gl
@pytest.mark.slow
def test_both_cameras_see_the_peg_and_the_block(cell: Cell) -> None:
    cell.task.reset(3)
    for picture in pictures(cell):
        assert picture.shape == (128, 128, 3)
        assert 50 < is_orange(picture).sum() < 4000
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


LOOKS = {  # red, green, blue of what a task is about, relative to the brightest
    "button_press": (1.0, 0.2, 0.2),
    "charger_plugging": (1.0, 0.47, 0.13),
    "pick_and_place": (1.0, 0.2, 0.2),
    "cap_tightening": (1.0, 0.47, 0.13),
    "table_cleanup": (1.0, 0.82, 0.2),
}


@pytest.mark.gl
@pytest.mark.slow
@pytest.mark.usefixtures("_can_draw")
@pytest.mark.parametrize("robot", ["panda_sim", "arm6_sim"])
@pytest.mark.parametrize("task", LOOKS)
def test_both_cameras_see_what_each_task_is_about(task: str, robot: str) -> None:
    cell = make(robot, task=task)
    cell.open()
    for seed in range(3):
        cell.task.reset(seed)
        for picture in pictures(cell):
            colours = picture / np.maximum(picture.max(axis=2, keepdims=True), 60.0)
            alike = np.abs(colours - LOOKS[task]).max(axis=2) < 0.12
            assert 12 < alike.sum() < 3000
    cell.close()


@pytest.mark.gl
@pytest.mark.slow
def test_pictures_stand_upright(cell: Cell) -> None:
    """The gripper holds the peg from above: what is above the peg in the front picture is white, and not wood."""
    cell.task.reset(3)
    front, _ = pictures(cell)
    rows, columns = np.nonzero(is_orange(front))
    above = front[: rows.min() - 2, int(np.median(columns))].mean()
    below = front[rows.max() + 8 :, int(np.median(columns))].mean()
    assert rows.min() > 5
    assert above != below
    bright = front[:40].max(axis=2) > 140
    assert bright.sum() > 3 * (front[100:].max(axis=2) > 180).sum()


@pytest.mark.gl
@pytest.mark.slow
def test_pictures_show_this_instant(cell: Cell) -> None:
    cell.task.reset(3)
    before = pictures(cell)
    still = pictures(cell)
    for _ in range(4):
        cell.observe()
        cell.robot.command(np.array([0, 0, -0.01, 0], np.float32))
    after = pictures(cell)
    for a, b, c in zip(before, still, after, strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a != c).any(axis=2).mean() > 0.01
    rows = [np.nonzero(is_orange(p))[0].max() for p in (before[0], after[0])]
    assert rows[1] > rows[0] + 3  # it went down


@pytest.mark.gl
@pytest.mark.slow
def test_pictures_do_not_lag_behind_the_physics(cell: Cell) -> None:
    """A step of physics leaves every geom's pose one substep behind its joints."""
    cell.task.reset(3)
    world = cell.task.arm.world  # type: ignore[attr-defined]
    for _ in range(4):
        cell.observe()
        cell.robot.command(np.array([0.015, 0, -0.01, 0.1], np.float32))
        seen = pictures(cell)
        mujoco.mj_forward(world.model, world.data)
        for a, b in zip(seen, pictures(cell), strict=True):
            np.testing.assert_array_equal(a, b)
        mujoco.mj_step(world.model, world.data, nstep=3)  # and a little later they are others
        stale = [camera._screen.draw(world.data) for camera in cell.cameras.values()]  # type: ignore[attr-defined]
        assert any((a != b).any() for a, b in zip(pictures(cell), stale, strict=True))


@pytest.mark.gl
@pytest.mark.slow
def test_a_closed_camera_has_given_its_context_back(cell: Cell) -> None:
    screens = [camera._screen for camera in cell.cameras.values()]  # type: ignore[attr-defined]
    cell.close()
    assert all(screen._context._context is None for screen in screens)


@pytest.mark.gl
@pytest.mark.slow
def test_looking_changes_nothing_in_the_world(cell: Cell) -> None:
    def run(look: bool) -> bytes:
        cell.task.reset(5)
        for _ in range(10):
            cell.observe() if look else cell.robot.read()
            cell.robot.command(np.array([0.005, 0.0, -0.01, 0.02], np.float32))
        return bytes(cell.robot.read().values.tobytes())

    assert run(look=True) == run(look=False)


@pytest.mark.gl
@pytest.mark.slow
def test_a_simulated_camera_keeps_the_contract(cell: Cell) -> None:
    for camera in cell.cameras.values():
        camera.close()
        check_camera(lambda camera=camera: camera)  # type: ignore[misc]


@pytest.mark.gl
@pytest.mark.slow
def test_a_cell_with_cameras_opens_again(cell: Cell) -> None:
    cell.task.reset(3)
    first = pictures(cell)
    cell.close()
    cell.open()
    cell.task.reset(3)
    for a, b in zip(first, pictures(cell), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.gl
@pytest.mark.slow
@pytest.mark.usefixtures("_can_draw")
def test_cameras_may_be_large_and_oblong() -> None:
    """Larger than MuJoCo's own framebuffer of 640 x 480."""
    seen = []
    for factor in (1, 2):
        cell = make(height=350 * factor, width=450 * factor)
        cell.open()
        cell.task.reset(3)
        seen.append([picture[::factor, ::factor].astype(int) for picture in pictures(cell)])
        cell.close()
    for small, large in zip(*seen, strict=True):
        assert small.shape == large.shape == (350, 450, 3)
        assert (np.abs(small - large).max(axis=2) > 30).mean() < 0.02


@pytest.mark.gl
@pytest.mark.slow
@pytest.mark.parametrize("library", ["egl", "osmesa"])
def test_each_library_that_is_installed_draws_and_leaves_quietly(library: str) -> None:
    if not ctypes.util.find_library({"egl": "EGL", "osmesa": "OSMesa"}[library]):
        pytest.skip(f"{library} is not installed")
    code = (
        "from tests.hal.sim.test_camera import make, pictures, is_orange\n"
        "cell = make('arm6_sim')\ncell.open()\ncell.task.reset(1)\n"
        "assert all(is_orange(p).sum() > 50 for p in pictures(cell))\ncell.close()\n"
    )
    run = python(code, MUJOCO_GL=library)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_closed_camera_says_so() -> None:
    with pytest.raises(HardwareError, match=r"camera front is not open; call open\(\) first"):
        make().cameras["front"].read()


def test_without_a_library_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "")
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    cell = make()
    with pytest.raises(HardwareError) as caught:
        cell.open()
    assert str(caught.value) == (
        "no library for cameras (cameras.*.gl = auto); "
        "apt-get install libegl1 libgl1-mesa-dri (EGL) or libosmesa6 (OSMesa), or run with cameras=none"
    )


@pytest.mark.slow
@pytest.mark.parametrize("library", ["egl", "osmesa"])
def test_a_library_that_fails_to_load_is_reported_in_one_line(library: str) -> None:
    """PyOpenGL is told to load a platform that is not the wanted one, which fails as a missing library does."""
    other = {"egl": "osmesa", "osmesa": "egl"}[library]
    run = python(SAYS.replace("make()", f"make(gl='{library}')"), PYOPENGL_PLATFORM=other)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"no pictures from {library}: ")
    assert "libosmesa6" in run.stdout


@pytest.mark.slow
def test_a_library_without_its_drivers_is_reported_in_one_line() -> None:
    if not ctypes.util.find_library("EGL"):
        pytest.skip("EGL is not installed")
    run = python(SAYS.replace("make()", "make(gl='egl')"), __EGL_VENDOR_LIBRARY_DIRS=str(ROOT / "docs"))
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("\n") == 1
    assert run.stderr == ""
    assert run.stdout.startswith("no pictures from egl: ")
    assert "libgl1-mesa-dri" in run.stdout


@pytest.mark.parametrize(
    ("wanted", "variable", "installed", "taken"),
    [
        (Gl.AUTO, "PYOPENGL_PLATFORM=osmesa", {"EGL", "OSMesa"}, Gl.OSMESA),
        (Gl.AUTO, "", {"EGL", "OSMesa"}, Gl.EGL),
        (Gl.AUTO, "", {"OSMesa"}, Gl.OSMESA),
        (Gl.AUTO, "osmesa", {"EGL", "OSMesa"}, Gl.OSMESA),
        (Gl.AUTO, "glfw", {"EGL", "OSMesa"}, Gl.EGL),
        (Gl.OSMESA, "egl", {"EGL", "OSMesa"}, Gl.OSMESA),
    ],
)
def test_which_library_draws(
    wanted: Gl, variable: str, installed: set[str], taken: Gl, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = variable.rpartition("=")
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "")
    monkeypatch.setenv(name or "MUJOCO_GL", value)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: name if name in installed else None)
    assert sim_camera._library(wanted) is taken


@pytest.mark.parametrize("size", [{"height": 0}, {"width": 0}, {"height": 5000}, {"width": 5000}])
def test_a_size_that_no_picture_has_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"height = .*, width = .*, allowed 1 to 4096 pixels each"):
        SimCameraConfig(**size)  # type: ignore[arg-type]


@pytest.mark.slow
def test_state_needs_no_graphics_library() -> None:
    code = (
        "import sys\nfrom hal.make import CellConfig, make_cell\nfrom user_rl.clock import SystemClock\n"
        "config = CellConfig(robot={'name': 'panda_sim'}, task={'name': 'peg_insertion'})\n"
        "cell = make_cell(config, name='a', clock=SystemClock(), seed=1)\n"
        "cell.open()\ncell.observe()\ncell.close()\nprint('OpenGL' in sys.modules)"
    )
    run = python(code)
    assert (run.stdout.strip(), run.stderr) == ("False", "")


def test_a_camera_is_named_after_its_place_in_the_cell() -> None:
    cell = make()
    camera = cell.cameras["wrist"]
    assert isinstance(camera, SimCamera)
    assert camera.spec.name == f"{IMAGES}.wrist"
    assert camera.config.view is View.WRIST
    assert FakeClock().now_s() == 0.0
