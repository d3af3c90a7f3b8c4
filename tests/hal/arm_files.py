"""An SO-101 behind the servo-bus emulator: what several tests start from."""

import json
from pathlib import Path

from hal.emulators.feetech import FeetechEmulator, calibration
from hal.feetech import BusConfig
from hal.so101 import JOINTS, So101, So101Config
from user_rl.clock import SystemClock

PATIENT = BusConfig(answer_s=0.2)  # a busy machine may let the emulator's thread wait


def write_calibration(folder: Path, **changes: dict[str, int]) -> str:
    joints = calibration(JOINTS)
    for name, change in changes.items():
        joints[name] |= change
    path = folder / "calibration.json"
    path.write_text(json.dumps(joints))
    return str(path)


def make_so101(emulator: FeetechEmulator, folder: Path, bus: BusConfig = PATIENT, **more: float) -> So101:
    path = write_calibration(folder)
    config = So101Config(port=emulator.path, calibration=path, rate_hz=0.9 / bus.longest_s, bus=bus, **more)
    return So101(config, clock=SystemClock())
