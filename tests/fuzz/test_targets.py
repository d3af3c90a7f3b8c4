"""What a fuzzer found once stays found: made-up bytes by Hypothesis always, by atheris where it is installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.bytes_in import Choices
from tests.fuzz.targets import TARGETS, Target, _stored

ROOT = Path(__file__).parents[2]
MADE: dict[str, Target] = {}  # once: a log, an authority


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_made_up_bytes_meet_an_answer_or_a_refusal(name: str) -> None:
    target = MADE.get(name) or MADE.setdefault(name, TARGETS[name]())

    @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=400))
    def meets(data: bytes) -> None:
        target(data)

    meets()


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("name", TARGETS)
def test_atheris_finds_nothing_in_a_short_while(name: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.fuzz", name, "--seconds", "20", "--findings", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=280, env=os.environ)
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(tmp_path.iterdir())


def test_every_coding_of_rows_is_tried() -> None:
    assert len(_stored()) == 4


def test_choices_take_from_the_front_and_then_are_the_first() -> None:
    choices = Choices(b"\x02\x03\x00abcdef")
    assert (choices.number(), choices.piece(), choices.rest()) == (2, b"abc", b"def")
    assert not choices
    assert (choices.number(), choices.one_of("xyz"), choices.piece()) == (0, "x", b"")
    assert choices.changed(b"same") == b"same"


@pytest.mark.parametrize(
    ("bytes_", "changed"),
    [(b"\x01\x01\x00X\x00", b"aXc"), (b"\x01\x01\x00\x01\x01", b"ac"), (b"\x01\x01\x00X\x02\x01", b"aXXbc")],
    ids=["set", "cut", "put in"],
)
def test_a_change_sets_cuts_or_puts_in(bytes_: bytes, changed: bytes) -> None:
    assert Choices(bytes_).changed(b"abc") == changed
