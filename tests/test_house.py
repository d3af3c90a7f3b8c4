"""Sizes, units in names, and set-up files: what a machine can hold so that nobody has to be strict."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("user_rl", "hal", "policies", "edge", "cloud")
FILES = [f for p in PACKAGES for f in sorted((ROOT / p).rglob("*.py")) if "_pb2" not in f.name]
TIME_WORDS = re.compile(r"^(timeout|deadline|interval|period|delay|duration|age|latency|wait|ttl|expiry)$")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_short_and_its_functions_too(path: Path) -> None:
    assert path.read_text().count("\n") <= 400
    for f in functions(path):
        assert (f.end_lineno or f.lineno) - f.lineno < 60, f.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_times_and_rates_carry_their_unit(path: Path) -> None:
    for f in functions(path):
        bare = [a.arg for a in (*f.args.args, *f.args.kwonlyargs) if TIME_WORDS.match(a.arg)]
        assert not bare, f"{path.name}:{f.lineno} {f.name}: {bare} need a unit (_s, _ms, _hz)"


def test_no_file_is_named_after_nothing() -> None:
    assert not [f for f in FILES if f.stem in {"utils", "helpers", "common", "base", "manager", "handler", "misc"}]


def test_the_lock_pins_every_line_and_names_no_index() -> None:
    lines = [x for x in (ROOT / "requirements.lock").read_text().splitlines() if x and not x.startswith("#")]
    assert "torch==2.13.0" in lines
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._!]+", line) for line in lines)


def test_the_edge_extra_is_light() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    edge = re.search(r"^edge = \[(.*?)\]", text, re.M | re.S)
    base = re.search(r"^dependencies = \[(.*?)\]", text, re.M | re.S)
    assert edge is not None
    assert base is not None
    assert not re.search(r"torch|ray|mujoco|wandb|matplotlib", edge.group(1) + base.group(1))


@pytest.mark.parametrize("path", sorted((ROOT / "configs/experiment").glob("*.yaml")), ids=lambda p: p.stem)
def test_an_experiment_is_under_fifteen_lines(path: Path) -> None:
    assert path.read_text().count("\n") < 15
