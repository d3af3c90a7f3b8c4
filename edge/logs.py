"""Logs of the edge's processes: one event a line on stderr, for people, for journald, or as JSON for machines.

Under systemd (JOURNAL_STREAM names the stream that stderr is) each line begins with its priority, <0> to <7>, which
journald takes off again. Nothing here looks at a configuration or a bundle: keys and passwords never reach a line.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TextIO

PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))  # syslog's numbers; debug is 7
TEXT_BYTES = 2000  # of a message that `LastTrouble` keeps


class Format(StrEnum):
    """What a line looks like."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How the daemon logs."""

    format: Format = Format.TEXT
    level: str = "INFO"

    def __post_init__(self) -> None:
        if self.level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError(f"level = {self.level}, allowed DEBUG, INFO, WARNING, ERROR; choose one of these")


def set_up_logs(
    process: str, cell: str, config: LogConfig, *, run: Callable[[], str] = str, stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:  # fmt: skip
    """Replaces what the root logger has. `run`: the name of the run for now, asked for each line."""
    stream = stream or sys.stderr
    formatter: logging.Formatter
    if config.format is Format.JSON:
        formatter = JsonLines(process, cell, run)
    else:
        formatter = logging.Formatter(f"%(asctime)s %(levelname)s {process}: %(message)s")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Prioritised(formatter) if is_journal(stream, environ) else formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.level)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)


class JsonLines(logging.Formatter):
    """A JSON object a line: time (UTC), level, process, logger, cell, run, message, and exception if there is one."""

    def __init__(self, process: str, cell: str, run: Callable[[], str]) -> None:
        super().__init__()
        self._process, self._cell, self._run = process, cell, run

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname, "process": self._process, "logger": record.name, "cell": self._cell,
            "run": self._run(), "message": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class Prioritised(logging.Formatter):
    """Another formatter's lines, each with the priority that journald reads."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        number = next((number for level, number in PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{number}>{line}" for line in self._inner.format(record).splitlines())


class LastTrouble(logging.Handler):
    """Keeps the newest warning or error of this process, for `user-rl-edge status`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text, self.when = "", ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:TEXT_BYTES]
        self.when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether `stream` goes to journald: systemd says which file that is, so that a redirected one is not meant."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{stat.st_dev}:{stat.st_ino}"
