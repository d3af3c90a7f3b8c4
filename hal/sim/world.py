"""World: one MuJoCo model and its state, put together from an arm and what a task adds; no graphics library needed.

Needs mujoco (extra `sim`). The model is compiled by `open`, so that a task can add its fixture first.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import mujoco
import numpy as np

from hal.sim.arms import Arm, add_arm, add_motors
from hal.sim.tools import Tool, add_fingers_motors
from user_rl.errors import RobotUnreachable
from user_rl.specs import Array

_FRICTION = "0.3 0.005 0.0001"  # polished metal; at 1 a peg that presses on the rim sticks there

Numbers = Sequence[float] | Array
Furniture = Callable[[Element], None]  # adds bodies, geoms, cameras to a worldbody


class World:
    """An arm in a scene, and its physics. One thread."""

    def __init__(self, arm: Arm, *, substep_s: float, tool: Tool = Tool.PEG) -> None:
        self.arm, self.substep_s, self.tool = arm, substep_s, tool
        self._furniture: list[Furniture] = []
        self._places: dict[str, slice] = {}  # of each joint in qpos
        self._model: Any = None
        self._data: Any = None

    def add(self, furniture: Furniture) -> None:
        """Adds to the scene that the next `open` builds."""
        self._furniture.append(furniture)

    def open(self) -> None:
        """Compiles the scene and puts the arm into its home posture."""
        xml = scene_xml(self.arm, self._furniture, substep_s=self.substep_s, tool=self.tool)
        self._model = mujoco.MjModel.from_xml_string(xml)
        self._data = mujoco.MjData(self._model)
        self._places = _places(self._model)
        self.place(np.asarray(self.arm.home))
        self._damp()

    def close(self) -> None:
        """Drops model and state; safe to call twice."""
        self._model = self._data = None

    @property
    def model(self) -> Any:  # noqa: ANN401  # mujoco has no types
        if self._model is None:
            raise RobotUnreachable(f"the simulated {self.arm.model} is not open; call open() first")
        return self._model

    @property
    def data(self) -> Any:  # noqa: ANN401
        if self._data is None:
            raise RobotUnreachable(f"the simulated {self.arm.model} is not open; call open() first")
        return self._data

    def place(self, posture: Array, things: Mapping[str, Numbers] = {}) -> None:
        """Puts the arm at rest at `posture` [J] rad and the joints of things where these say; what has been goes."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: len(posture)] = posture
        for joint, values in things.items():
            self.data.qpos[self._places[joint]] = values
        mujoco.mj_forward(self.model, self.data)

    def move(self, body: str, at_m: Numbers, yaw_rad: float = 0.0) -> None:
        """Lets a body of the worldbody stand elsewhere from the next `place` on; `at_m` in the base's frame."""
        i = self.model.body(body).id
        self.model.body_pos[i] = at_m
        self.model.body_quat[i] = (np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2))

    def where(self, joint: str) -> Array:
        """A joint's position now: [1] m or rad; of a free body [7] m and quaternion, in the base's frame."""
        position: Array = self.data.qpos[self._places[joint]]
        return position

    def grip(self, width_m: float) -> None:
        """Lets the fingers pull towards `width_m` between them from now on."""
        self.data.ctrl[len(self.arm.joints) :] = width_m / 2

    @property
    def width_m(self) -> float:
        """What is between the fingers."""
        return float(self.where("finger_right")[0] + self.where("finger_left")[0])

    def advance(self, target: Array, substeps: int) -> None:
        """Lets the motors pull towards `target` [J] rad for so many substeps."""
        self.data.ctrl[: len(target)] = target
        mujoco.mj_step(self._model, self._data, nstep=substeps)

    def _damp(self) -> None:
        """Damps each servo critically for the inertia that it carries in the arm's present posture."""
        inertia = np.zeros((self.model.nv, self.model.nv))
        mujoco.mj_fullM(self.model, inertia, self.data.qM)
        stiffness = self.model.actuator_gainprm[:, 0]  # of the first joints: arm, then fingers, then things
        self.model.actuator_biasprm[:, 2] = -2.0 * np.sqrt(stiffness * inertia.diagonal()[: len(stiffness)])

    def refresh(self) -> None:
        """Brings every geom's and camera's pose to the present; a step leaves them one substep behind."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)


def _places(model: Any) -> dict[str, slice]:  # noqa: ANN401
    starts = [*model.jnt_qposadr.tolist(), model.nq]
    return {model.joint(i).name: slice(starts[i], starts[i + 1]) for i in range(model.njnt)}


def _add_room(world: Element) -> None:
    """A bench and two walls for cameras to see; nothing touches them."""
    SubElement(world, "geom", type="box", pos="0.35 0 -0.02", size="0.6 0.6 0.02", rgba="0.45 0.38 0.32 1")
    SubElement(world, "geom", type="box", pos="-1.2 0 0.6", size="0.02 2 1.4", rgba="0.72 0.75 0.78 1")
    SubElement(world, "geom", type="box", pos="0 -1.6 0.6", size="1.6 0.02 1.4", rgba="0.66 0.70 0.74 1")


def scene_xml(arm: Arm, furniture: list[Furniture], *, substep_s: float, tool: Tool = Tool.PEG) -> str:
    """The MJCF of an arm with its tool and its scene."""
    root = Element("mujoco", model=arm.model)
    SubElement(root, "compiler", angle="radian", autolimits="true")
    SubElement(root, "option", timestep=str(substep_s), integrator="implicitfast", cone="pyramidal")
    visual = SubElement(root, "visual")
    SubElement(visual, "quality", shadowsize="0", offsamples="0", numslices="12", numstacks="6", numquads="1")
    SubElement(visual, "headlight", ambient="0.35 0.35 0.35", diffuse="0.35 0.35 0.35", specular="0 0 0")
    default = SubElement(root, "default")
    geom = {"contype": "0", "conaffinity": "0", "friction": _FRICTION}  # only tools and what they work on touch
    SubElement(default, "geom", geom)
    body = SubElement(root, "worldbody")
    SubElement(
        body, "light", directional="true", castshadow="false", pos="0 0 2", dir="0.3 0.4 -1", diffuse="0.6 0.6 0.6"
    )
    _add_room(body)
    add_arm(body, arm, tool)
    for add in furniture:
        add(body)
    actuators = SubElement(root, "actuator")
    add_motors(actuators, arm)
    add_fingers_motors(actuators, tool)
    return tostring(root, encoding="unicode")
