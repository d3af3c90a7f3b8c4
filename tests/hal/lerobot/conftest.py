"""LeRobot's environment: a virtual environment with the stand-in and what the bridge needs beside it, no more."""

import importlib.util
import shutil
import sys
import venv
from pathlib import Path

import pytest

STAND_IN = Path(__file__).parent / "environment"
NEEDS = ("numpy", "msgspec", "zmq")  # beside lerobot and draccus
DISTRIBUTIONS = ("lerobot_robot_planar", "lerobot_teleoperator_planar")


@pytest.fixture(scope="session")
def lerobot_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of that environment."""
    home = tmp_path_factory.mktemp("lerobot-env")
    venv.create(home, symlinks=True, with_pip=False)
    packages = home / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    shutil.copytree(STAND_IN, packages, dirs_exist_ok=True)
    for name in NEEDS:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        found = Path(spec.origin).parent
        (packages / name).symlink_to(found)
        for libraries in found.parent.glob("*.libs"):
            if libraries.name.startswith((name, f"py{name}")):
                (packages / libraries.name).symlink_to(libraries)
    for name in DISTRIBUTIONS:
        info = packages / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return str(home / "bin/python")
