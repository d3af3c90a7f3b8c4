"""The driver in docs/drivers.md is a driver: installed as the page says, it keeps its contract and can be chosen."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/drivers.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def test_the_template_is_under_seventy_lines() -> None:
    driver, _ = blocks("python")
    assert len([line for line in driver.splitlines() if line.strip()]) < 70


@pytest.mark.slow
def test_the_template_runs_as_the_page_says(tmp_path: Path) -> None:
    driver, test = blocks("python")
    (tmp_path / "acme_arm.py").write_text(driver)
    (tmp_path / "test_acme_arm.py").write_text(test)
    info = tmp_path / "acme_arm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-arm\nVersion: 1.0\n")
    [pyproject] = blocks("toml")
    [(group, points)] = tomllib.loads(pyproject)["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments], env=env, cwd=tmp_path, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "1 passed" in run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_acme_arm.py")
    code = (
        "from edge.main import configuration\n"
        "from hal.driver import Parts\n"
        "from hal.tables.robots import make_robot\n"
        "from user_rl.clock import SystemClock\n"
        "tree = configuration(None, ['name=a', 'bundle=b', 'home=h', 'robot=acme', 'robot.host=10.0.0.5'])\n"
        "print(make_robot(tree['robot'], Parts(clock=SystemClock(), seed=0)).spec.model, tree['robot'])\n"
    )
    assert run("-c", code) == "acme {'name': 'acme', 'host': '10.0.0.5', 'port': 4711, 'timeout_s': 0.2}\n"
