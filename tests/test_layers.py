"""Who may know whom: the table of the house, held against every import, lazy ones included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "user_rl": set(),
    "hal": {"user_rl"},
    "policies": {"user_rl"},
    "edge": {"user_rl", "hal", "policies"},
    "cloud": {"user_rl", "hal", "policies"},
}
BARRED = {
    "user_rl": {"torch", "ray", "mujoco"},
    "hal": {"torch", "ray", "lmdb", "zmq", "grpc"},
    "policies": {"ray", "zmq", "lmdb", "grpc"},
    "edge": {"ray", "mujoco", "torch"},
    "cloud": {"mujoco"},
}

MAY_UNPICKLE = {"cloud/datasets/hil_serl.py"}  # files of others, never from a wire, behind --trust-pickle, arrays only


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_lies_below_it(package: str) -> None:
    barred = (set(MAY_IMPORT) - MAY_IMPORT[package] - {package}) | BARRED[package]
    wrong = {str(f.relative_to(ROOT)): bad for f in (ROOT / package).rglob("*.py") if (bad := imported(f) & barred)}
    assert not wrong


def test_nothing_uses_pickle_or_loads_whole_torch_objects() -> None:
    for package in MAY_IMPORT:
        for path in (ROOT / package).rglob("*.py"):
            found = imported(path) & {"pickle", "cloudpickle", "dill", "shelve"}
            assert not found or path.relative_to(ROOT).as_posix() in MAY_UNPICKLE, path
            text = path.read_text()
            assert text.count("torch.load(") == text.count("weights_only=True"), path


@pytest.mark.slow
def test_the_edge_is_imported_with_its_own_extra_alone() -> None:
    code = (
        "import sys\n"
        "class Barred:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'ray', 'mujoco', 'mink', 'gymnasium', 'wandb', 'rich'}:\n"
        "            raise ImportError(name + ' is not part of the edge extra')\n"
        "sys.meta_path.insert(0, Barred())\n"
        "import edge.main, edge.daemon, edge.control, edge.link, policies.load, policies.mlp_numpy, hal.make\n"
        "import edge.discover, edge.doctor.visit, edge.doctor.examination\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_gateways_process_imports_neither_torch_nor_ray() -> None:
    look = "import sys, cloud.gateway_actor; sys.exit(bool({'torch', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0
