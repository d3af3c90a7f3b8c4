"""SimCamera: a camera in the simulated world, drawn by MuJoCo on a software or hardware GL library without a screen.

Needs mujoco (extra `sim`) and EGL (Debian: libegl1 libgl1-mesa-dri) or OSMesa (libosmesa6), loaded by `open`. With
shadows, multisampling and reflections off, a software GL draws 128x128 pixels in one to two milliseconds.
All cameras of a process use one GL library: PyOpenGL binds to the first that it meets.
"""

import ctypes.util
import importlib
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hal.camera import Frame
from user_rl.clock import Clock
from user_rl.errors import ConfigError, HardwareError
from user_rl.specs import Array, Image

if TYPE_CHECKING:  # its module loads mujoco, this one must not
    from hal.sim.world import World

_MAX_PIXELS = 4096
_PACKAGES = "apt-get install libegl1 libgl1-mesa-dri (EGL) or libosmesa6 (OSMesa), or run with cameras=none"


class Gl(StrEnum):
    """The library that draws."""

    AUTO = "auto"  # what MUJOCO_GL or PYOPENGL_PLATFORM names, else EGL if it is there, else OSMesa
    EGL = "egl"
    OSMESA = "osmesa"


class View(StrEnum):
    """Where a camera is mounted."""

    FRONT = "front"  # fixed, beyond the work frame, looking back at it
    WRIST = "wrist"  # on the hand, looking at the tip


@dataclass(frozen=True, kw_only=True)
class SimCameraConfig:
    """A mount, a size, and the library that draws."""

    view: View = View.FRONT
    height: int = 128
    width: int = 128
    gl: Gl = Gl.AUTO

    def __post_init__(self) -> None:
        if not (0 < self.height <= _MAX_PIXELS and 0 < self.width <= _MAX_PIXELS):
            size = f"height = {self.height}, width = {self.width}"
            raise ValueError(f"{size}, allowed 1 to {_MAX_PIXELS} pixels each; change them")


@dataclass(frozen=True, kw_only=True)
class _Mount:
    body: str | None  # None: fixed to the world, its frame moved to the work frame's origin
    at_m: tuple[float, float, float]
    look_at_m: tuple[float, float, float]
    up: tuple[float, float, float]
    opening_deg: float


_MOUNTS = {
    View.FRONT: _Mount(body=None, at_m=(0.38, 0.16, 0.26), look_at_m=(0, 0, 0.04), up=(0, 0, 1), opening_deg=42),
    View.WRIST: _Mount(body="hand", at_m=(0.10, 0, -0.03), look_at_m=(0.01, 0, -0.16), up=(1, 0, 0), opening_deg=60),
}


class SimCamera:
    """See hal.camera.Camera. Adds itself to the world, so it is made before the robot is opened."""

    def __init__(
        self, config: SimCameraConfig, world: "World", *, name: str, origin_m: tuple[float, ...], clock: Clock
    ) -> None:
        self.config, self.world, self.name, self.clock = config, world, name, clock
        self._origin_m = origin_m
        self._spec = Image(name=f"observation.images.{name}", height=config.height, width=config.width)
        self._screen: _Screen | None = None
        world.add(self._add_camera)

    @property
    def spec(self) -> Image:
        return self._spec

    def open(self) -> None:
        self._screen = _Screen(self.world.model, f"camera_{self.name}", self.config)

    def read(self) -> Frame:
        if self._screen is None:
            raise HardwareError(f"camera {self.name} is not open; call open() first")
        self.world.refresh()
        return Frame(stamp_s=self.clock.now_s(), pixels=self._screen.draw(self.world.data))

    def close(self) -> None:
        if self._screen is not None:
            self._screen.close()
            self._screen = None

    def _add_camera(self, world: Element) -> None:
        mount = _MOUNTS[self.config.view]
        body = world if mount.body is None else world.find(f".//body[@name='{mount.body}']")
        assert body is not None, mount.body
        at = np.add(mount.at_m, self._origin_m if mount.body is None else 0.0)
        back = np.subtract(mount.at_m, mount.look_at_m)  # a camera looks along its own -z
        right = np.cross(mount.up, back)
        axes = " ".join(f"{x:.6g}" for x in (*right, *np.cross(back, right)))
        position = " ".join(f"{x:.6g}" for x in at)
        SubElement(
            body, "camera", name=f"camera_{self.name}", pos=position, xyaxes=axes, fovy=str(mount.opening_deg)
        )  # fmt: skip


class _Screen:
    """A GL context and MuJoCo's drawing of one camera into it."""

    def __init__(self, model: Any, camera: str, config: SimCameraConfig) -> None:  # noqa: ANN401
        import mujoco

        self._mujoco, self._model = mujoco, model
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, config.width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, config.height)
        self._context = _context(config)
        self._context.make_current()
        self._scene = mujoco.MjvScene(model, maxgeom=200)
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "FOG", "HAZE"):
            self._scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = False
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(camera).id
        self._rect = mujoco.MjrRect(0, 0, config.width, config.height)
        self._pixels = np.empty((config.height, config.width, 3), np.uint8)
        try:
            self._renderer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        except mujoco.FatalError as error:
            self._context.free()
            raise HardwareError(f"{camera} cannot draw {config.width} x {config.height} pixels: {error}") from error
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._renderer)

    def draw(self, data: Any) -> Array:  # noqa: ANN401
        """The picture of this instant, top row first."""
        mujoco = self._mujoco
        self._context.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        mujoco.mjr_render(self._rect, self._scene, self._renderer)
        mujoco.mjr_readPixels(self._pixels, None, self._rect, self._renderer)
        return self._pixels[::-1].copy()  # GL counts rows from the bottom

    def close(self) -> None:
        """Frees what GL holds; without it PyOpenGL complains at exit."""
        self._context.make_current()
        self._renderer.free()
        self._context.free()


def _context(config: SimCameraConfig) -> Any:  # noqa: ANN401  # mujoco.egl's or mujoco.osmesa's GLContext
    library = _library(config.gl)
    try:
        module = importlib.import_module(f"mujoco.{library}")
    except (ImportError, AttributeError, OSError) as error:  # what PyOpenGL raises without its library
        raise _no_pictures(library, error) from error
    gl_error = importlib.import_module("OpenGL.error").Error  # not before: PyOpenGL binds when first imported
    try:
        if library is Gl.EGL and not module.create_initialized_egl_device_display():
            raise ImportError("EGL finds no device")  # before GLContext does, which then fails to clean up
        return module.GLContext(config.width, config.height)
    except (ImportError, RuntimeError, gl_error) as error:  # the library is there, its drivers are not
        raise _no_pictures(library, error) from error


def _no_pictures(library: Gl, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"no pictures from {library}: {reason}; {_PACKAGES}")


def _library(wanted: Gl) -> Gl:
    named = (os.environ.get("MUJOCO_GL") or os.environ.get("PYOPENGL_PLATFORM") or "").lower()
    if wanted is Gl.AUTO and named in (Gl.EGL, Gl.OSMESA):
        return Gl(named)
    candidates = {Gl.EGL: "EGL", Gl.OSMESA: "OSMesa"}
    for library in candidates if wanted is Gl.AUTO else [wanted]:
        if ctypes.util.find_library(candidates[library]):
            return library
    raise ConfigError(f"no library for cameras (cameras.*.gl = {wanted}); {_PACKAGES}")
