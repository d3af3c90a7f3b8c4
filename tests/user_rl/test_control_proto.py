"""The committed stubs are those that scripts/generate makes of control.proto."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = ("control_pb2.py", "control_pb2.pyi", "control_pb2_grpc.py", "control_pb2_grpc.pyi")


@pytest.mark.slow
def test_the_committed_stubs_are_current(tmp_path: Path) -> None:
    env = os.environ | {"PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts" / "generate", tmp_path], check=True, env=env, timeout=120)
    made = sorted((tmp_path / "user_rl").iterdir())
    assert [path.name for path in made] == sorted(STUBS)
    for path in made:
        assert path.read_bytes() == (ROOT / "user_rl" / path.name).read_bytes(), f"{path.name}: run scripts/generate"


def test_the_stubs_import_each_other_from_the_package() -> None:
    assert "from user_rl import control_pb2" in (ROOT / "user_rl" / "control_pb2_grpc.py").read_text()
