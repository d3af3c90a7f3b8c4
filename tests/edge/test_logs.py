"""Logs: text for people, JSON for machines, priorities for journald."""

import io
import json
import logging
import os
import sys
from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.logs import JsonLines, LastTrouble, LogConfig, Prioritised, is_journal, set_up_logs
from user_rl.config import build
from user_rl.errors import ConfigError


def said(config: LogConfig) -> str:
    stream = io.StringIO()
    set_up_logs("link", "arm", config, run=lambda: "first", stream=stream, environ={})
    log = logging.getLogger("edge.link")
    log.debug("not this")
    log.info("lease %d", 7)
    try:
        raise ValueError("of the disk")
    except ValueError:
        log.error("it failed", exc_info=True)
    return stream.getvalue()


def test_text_is_one_line_per_event_with_the_process() -> None:
    first, second, *trace = said(LogConfig()).splitlines()
    assert first.endswith(" INFO link: lease 7")
    assert second.endswith(" ERROR link: it failed")
    assert trace[-1] == "ValueError: of the disk"


def test_json_is_one_object_per_event(caplog: pytest.LogCaptureFixture) -> None:
    config = build(EdgeConfig, {"name": "a", "bundle": "b", "home": "h", "robot": {}, "task": {}, "log": {
        "format": "json"}}).log  # fmt: skip
    first, second = (json.loads(line) for line in said(config).splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "INFO", "process": "link", "logger": "edge.link", "cell": "arm", "run": "first", "message": "lease 7"
    }  # fmt: skip
    assert second["exception"].endswith("ValueError: of the disk\n")


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"log.level = LOUD, allowed DEBUG, INFO, WARNING, ERROR"):
        build(LogConfig, {"level": "LOUD"}, "log.")


@pytest.mark.parametrize(("level", "number"), [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3)])
def test_each_line_for_journald_begins_with_its_priority(level: str, number: int) -> None:
    record = logging.LogRecord("x", logging.getLevelName(level), "", 0, "two\nlines", (), None)
    text = Prioritised(logging.Formatter()).format(record)
    assert text == f"<{number}>two\n<{number}>lines"
    assert Prioritised(JsonLines("link", "arm", str)).format(record).startswith(f'<{number}>{{"time"')


def test_only_the_stream_that_is_the_journals_has_priorities(tmp_path: Path) -> None:
    with (tmp_path / "one").open("w") as one, (tmp_path / "two").open("w") as two:
        stat = os.fstat(one.fileno())
        environ = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        assert is_journal(one, environ)
        assert not is_journal(two, environ)
        assert not is_journal(one, {})
        assert not is_journal(io.StringIO(), environ)
        set_up_logs("halt", "arm", LogConfig(), stream=one, environ=environ)
        logging.getLogger("x").warning("late")
    assert (tmp_path / "one").read_text().startswith("<4>")
    assert sys.stderr is not None


def test_the_newest_trouble_is_kept_and_is_not_endless() -> None:
    kept = LastTrouble()
    log = logging.getLogger("tun-test")
    log.addHandler(kept)
    log.info("well")
    assert kept.text == ""
    log.warning("first")
    log.error("x" * 10_000)
    assert kept.text == "x" * 2000
    assert kept.when.endswith("+00:00")
    log.removeHandler(kept)
