"""Kinematics of a serial arm, forward by MuJoCo and inverse by mink: one warm-started quadratic program per step.

Needs mujoco, mink and daqp (extra `sim`). Poses are [x, y, z, yaw] of the site `tip` in the base's frame; the tool
points down at all times.
"""

import mink
import mujoco
import numpy as np

from user_rl.errors import RobotFault
from user_rl.specs import Array

_SOLVER = "daqp"
_SEARCH_STEPS = 20  # Newton converges in about six from the home posture


class MinkKinematics:
    """See hal.end_effector.Kinematics. `xml` is an MJCF with the arm's joints alone and a site `tip`."""

    def __init__(self, xml: str, home: Array, *, period_s: float) -> None:
        model = mujoco.MjModel.from_xml_string(xml)
        self.model, self.home, self.period_s = model, home, period_s
        self._site = model.site("tip").id
        self._measured, self._commanded = mink.Configuration(model, home), mink.Configuration(model, home)
        self._frame = mink.FrameTask("tip", "site", position_cost=1.0, orientation_cost=0.3)
        posture = mink.PostureTask(model, cost=1e-3)  # what a seventh joint does with its freedom
        posture.set_target(home)
        self._tasks = [self._frame, posture]
        self._limits = [mink.ConfigurationLimit(model)]
        self._jacobian = np.zeros((6, model.nv))

    def forward(self, position: Array, velocity: Array) -> tuple[Array, Array]:
        data = self._measured.data
        self._measured.update(position)
        matrix = data.site_xmat[self._site]
        pose = np.append(data.site_xpos[self._site], np.arctan2(matrix[3], matrix[0]))
        mujoco.mj_jacSite(self.model, data, self._jacobian[:3], self._jacobian[3:], self._site)
        return pose, (self._jacobian @ velocity)[[0, 1, 2, 5]]

    def start(self, posture: Array) -> None:
        self._commanded.update(posture)

    def solve(self, pose: Array) -> Array:
        self._aim(pose)
        self._step()
        return np.array(self._commanded.q)

    def search(self, pose: Array) -> Array:
        self._commanded.update(self.home)
        self._aim(pose)
        for _ in range(_SEARCH_STEPS):
            self._step()
        return np.array(self._commanded.q)

    def _aim(self, pose: Array) -> None:
        half = pose[3] / 2
        down_then_turned = (0.0, np.cos(half), np.sin(half), 0.0)
        self._frame.set_target(mink.SE3(wxyz_xyz=np.array([*down_then_turned, *pose[:3]])))

    def _step(self) -> None:
        try:
            velocity = mink.solve_ik(
                self._commanded, self._tasks, self.period_s, _SOLVER, damping=1e-6, limits=self._limits
            )
        except mink.NoSolutionFound as error:
            raise RobotFault(f"no joint motion reaches the tip's target: {error}; narrow the workspace") from error
        self._commanded.integrate_inplace(velocity, self.period_s)
