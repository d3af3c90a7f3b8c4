"""Real children: what they say, how they end, and that nothing of them is left."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hal.isolation import Hung, listen
from user_rl.errors import ConfigError, HardwareError

pytestmark = pytest.mark.slow
WITHIN_S = 60.0
HERE = "tests.hal.test_isolation"


def says(argument: Any) -> Iterator[Any]:  # noqa: ANN401
    """What a child runs: prints, as SDKs do, says twice, and ends as it is told."""
    sys.stdout.write("noise of a library {not JSON\n")
    sys.stdout.flush()
    os.system("echo noise of a library in C")
    yield argument
    yield [1, None, "ü"]
    end = argument["end"]
    if end == "crash":
        os.abort()
    if end == "bug":
        raise ZeroDivisionError("a bug")
    if end == "hang":
        time.sleep(WITHIN_S)
    if end == "config":
        raise ConfigError("change the key")
    if end == "hardware":
        raise HardwareError("no answer; look at the cable")
    if end == "children":
        Path(argument["file"]).write_text(str(os.getpid()))
        os.system("sleep 600")


def running(group: int) -> bool:
    """Whether a process of the group runs; one that is dead and only waits to be counted does not."""
    fields = [stat.read_text().rpartition(")")[2].split() for stat in Path("/proc").glob("[0-9]*/stat")]
    return any(int(field[2]) == group and field[0] not in "ZX" for field in fields)


def heard(end: str, *, within_s: float = WITHIN_S, **more: Any) -> list[Any]:  # noqa: ANN401
    return list(listen(f"{HERE}:says", {"end": end, **more}, within_s=within_s))


def test_what_the_function_yields_is_heard_and_what_it_prints_is_not() -> None:
    assert heard("well") == [{"end": "well"}, [1, None, "ü"]]


@pytest.mark.parametrize(
    ("end", "error", "words"),
    [
        ("config", ConfigError, "^change the key$"),
        ("hardware", HardwareError, "^no answer; look at the cable$"),
        ("crash", HardwareError, "^the process that looked ended with SIGABRT"),
        (
            "bug",
            HardwareError,
            "^the process that looked ended with code 1: ZeroDivisionError: a bug; see",
        ),
    ],
)
def test_how_the_child_ends_is_what_the_caller_gets(end: str, error: type[Exception], words: str) -> None:
    said = listen(f"{HERE}:says", {"end": end}, within_s=WITHIN_S)
    assert [next(said), next(said)] == [{"end": end}, [1, None, "ü"]]  # what was said before its end is kept
    with pytest.raises(error, match=words):
        next(said)


def test_a_child_that_hangs_is_killed_at_its_deadline_with_what_it_started(tmp_path: Path) -> None:
    file, start_s = tmp_path / "pid", time.monotonic()
    with pytest.raises(Hung, match=r"no answer within 3 s"):
        heard("children", within_s=3.0, file=str(file))
    assert time.monotonic() - start_s < 30.0
    assert not running(int(file.read_text()))


def test_a_child_is_ended_when_nobody_listens_any_more(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    said = listen(f"{HERE}:says", {"end": "children", "file": str(file)}, within_s=WITHIN_S)
    next(said), next(said)
    while not file.exists():
        time.sleep(0.01)
    said.close()  # type: ignore[attr-defined]
    assert not running(int(file.read_text()))
