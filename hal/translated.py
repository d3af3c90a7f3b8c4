"""Translated: an operator whose actions are put into another robot's terms, such as joints instead of a tip."""

from collections.abc import Callable

import msgspec

from hal.teleop import Teleop, TeleopReading
from user_rl.specs import Array, Box


class Translated:
    """See hal.teleop.Teleop. `translate` turns the operator's action [A] into one of `action`."""

    def __init__(self, teleop: Teleop, action: Box, translate: Callable[[Array], Array]) -> None:
        self.teleop, self._action, self._translate = teleop, action, translate

    @property
    def action(self) -> Box:
        return self._action

    def open(self) -> None:
        self.teleop.open()

    def begin(self, *, demonstrate: bool) -> None:
        self.teleop.begin(demonstrate=demonstrate)

    def poll(self) -> TeleopReading:
        reading = self.teleop.poll()
        if reading.action is None:
            return reading
        return msgspec.structs.replace(reading, action=self._translate(reading.action))

    def close(self) -> None:
        self.teleop.close()
