"""Drivers of other packages, installed as pip leaves them: a folder with code, and a dist-info beside it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
ARM = """
from dataclasses import dataclass
from hal.driver import Driver, Parts
from hal.testing import FakeRobot, FakeRobotConfig, FakeTask, FakeTaskConfig, FakeCamera, FakeCameraConfig

print("imported {name}", flush=True)

@dataclass(frozen=True, kw_only=True)
class ArmConfig:
    rate_hz: float = 25.0

def make(config: ArmConfig, parts: Parts) -> FakeRobot:
    return FakeRobot(FakeRobotConfig(rate_hz=config.rate_hz), clock=parts.clock)

ARM = Driver(config=ArmConfig, make=make)
TASK = Driver(config=FakeTaskConfig, make=lambda config, parts: FakeTask(config, parts.robot))
EYE = Driver(config=FakeCameraConfig, make=lambda config, parts: FakeCamera(config, name=parts.name, clock=parts.clock))
NO_DRIVER = (ArmConfig, make)
"""


def installed(site: Path, package: str, points: dict[str, dict[str, str]], code: str = ARM) -> None:
    """What pip leaves of a pure package."""
    module = package.replace("-", "_")
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(code.replace("{name}", module))
    info = site / f"{module}-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.1\n")
    lines = [
        line for group, names in points.items() for line in (f"[{group}]", *(f"{n} = {v}" for n, v in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """One good package, one that does not import, one that takes a name of ours, two that take the same."""
    site = tmp_path / "site"
    groups = {"user_rl.robots": "ARM", "user_rl.tasks": "TASK", "user_rl.cameras": "EYE"}
    installed(site, "good-arms", {group: {"good": f"good_arms:{what}"} for group, what in groups.items()})
    installed(site, "bad-arms", {"user_rl.robots": {"bad": "bad_arms:ARM"}}, "import a_missing_sdk\n")
    installed(site, "raw-arms", {"user_rl.robots": {"raw": "raw_arms:NO_DRIVER", "none": "raw_arms:NOTHING"}})
    installed(site, "our-arms", {"user_rl.robots": {"coasting": "our_arms:ARM"}})
    for name in ("one", "two"):
        installed(site, f"twin-{name}", {"user_rl.teleops": {"twin": f"twin_{name}:ARM"}})
    return site


def python(site: Path, code: str) -> "subprocess.CompletedProcess[str]":
    env = {"PYTHONPATH": f"{ROOT}:{site}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, cwd=site, capture_output=True, text=True, check=False, timeout=120)


CELL = """
import json, sys
from edge.config import EdgeConfig
from edge.control import cell_from_config
from edge.main import configuration
from user_rl.clock import FakeClock
from user_rl.config import build
from user_rl.errors import UserRlError
for overrides in json.loads({overrides!r}):
    try:
        tree = configuration(None, ["name=a", "bundle=b", "home=h", *overrides])
        cell = cell_from_config(build(EdgeConfig, tree), FakeClock())
        print(cell.robot.spec.rate_hz, cell.task.name, *cell.cameras, flush=True)
    except UserRlError as error:
        print(type(error).__name__, error, flush=True)
"""


def cells(site: Path, *overrides: list[str]) -> list[str]:
    """What user-rl-edge's configuration makes of each, in one process."""
    done = python(site, CELL.format(overrides=json.dumps(overrides)))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_driver_of_another_package_is_chosen_and_configured_like_ours(site: Path) -> None:
    said = cells(
        site,
        ["robot=fake", "task=fake"],
        ["robot=good", "task=good", "cameras=good", "robot.rate_hz=12.5"],
        ["robot=good", "task=good", "robot.rate=1"],
        ["robot=goood", "task=fake"],
    )
    assert said == [
        "10.0 fake",  # and nothing was imported for it
        "imported good_arms",
        "12.5 fake good",
        "ConfigError robot.rate: no such key, did you mean robot.rate_hz?",
        "ConfigError robot=goood: no such choice, did you mean good?",
    ]


def test_what_is_broken_is_named_and_breaks_nothing_else(site: Path) -> None:
    said = cells(
        site, ["robot=bad"], ["robot=raw"], ["robot=none"], ["robot=coasting", "robot.path=x", "task=fake"],
        ["robot=fake", "task=fake", "teleop=twin"], ["robot=fake", "task=fake"],
    )  # fmt: skip
    assert [line for line in said if not line.startswith("imported")] == [
        "ConfigError robot=bad: bad-arms 2.1 does not load: ModuleNotFoundError: No module named 'a_missing_sdk'; "
        "mend or uninstall it",
        "ConfigError robot=raw: raw_arms:NO_DRIVER of raw-arms 2.1 is a tuple, allowed a "
        "hal.driver.Driver(config=..., make=...); mend it",
        "ConfigError robot=none: raw-arms 2.1 does not load: AttributeError: module 'raw_arms' has no attribute "
        "'NOTHING'; mend or uninstall it",
        "ConfigError robot=coasting is ours, and our-arms 2.1 offers one of that name too; "
        "rename or uninstall that one",
        "ConfigError teleop=twin is offered by twin-one 2.1 and twin-two 2.1, allowed one; uninstall the other",
        "10.0 fake",
    ]


def test_a_tree_in_a_file_may_name_it_too_and_an_unknown_name_lists_it(site: Path) -> None:
    code = """
from hal.make import CellConfig, make_cell
from user_rl.clock import FakeClock
from user_rl.config import build
from user_rl.errors import ConfigError
def make(name):
    tree = {"robot": {"name": name, "rate_hz": 5.0}, "task": {"name": "good"}}
    return make_cell(build(CellConfig, tree), name="c", clock=FakeClock(), seed=1)
print(make("good").robot.spec.rate_hz)
try:
    make("other")
except ConfigError as error:
    print(error)
"""
    done = python(site, code)
    assert done.stdout.splitlines()[:2] == ["imported good_arms", "5.0"], done.stderr
    assert "robot.name = other, allowed panda_sim" in done.stdout
    assert "good" in done.stdout.splitlines()[2]
