"""Demonstrations of an earlier run, copied into this one before it starts: `demonstrations.path=OTHER_RUN`.

They keep the stream, the steps and the bytes under which they were recorded, so a second copy of a row cannot arise.
"""

from itertools import groupby
from pathlib import Path

import numpy as np

from cloud.shards.reader import log_at
from user_rl.errors import ConfigError
from user_rl.log import Log, LogConfig
from user_rl.log.readable import Readable
from user_rl.rows import Klass
from user_rl.specs import Array


def copy_demonstrations(source: Path, target: Path, config: LogConfig = LogConfig()) -> int:  # noqa: B008  # frozen
    """Copies the successful demonstrations of the log (or run) `source` into the log `target`; returns the episodes.

    What `target` has is not copied again. Raises ConfigError when there is no log or no demonstration.
    """
    folder = source / "log" if (source / "log" / "log.json").is_file() else source
    if not (folder / "log.json").is_file():
        raise ConfigError(
            f"demonstrations.path = {source}: no experience log there; give the folder of a run or its log"
        )
    with log_at(folder.resolve()) as reader:
        shown = [e for e in reader.episodes() if e.klass == Klass.DEMONSTRATION and e.success and e.closed]
        if not shown:
            raise ConfigError(f"demonstrations.path = {source}: no successful demonstration there; record some first")
        log = Log(target, config)
        try:
            for stream, episodes in groupby(shown, key=lambda e: e.stream):
                _copy_stream(reader, log, stream, {e.episode for e in episodes})
            log.sync()
        finally:
            log.close()
    return len(shown)


def _copy_stream(reader: Readable, log: Log, stream: str, episodes: set[int]) -> None:
    schema = reader.streams()[stream]
    at = log.open_stream(stream, schema) + 1
    for chunk in reader.scan(stream):
        rows = schema.view(chunk.data)
        rows = rows[(rows["step"] >= at) & np.isin(rows["episode"], list(episodes))]
        if len(rows):
            at = _append(log, stream, rows, at)


def _append(log: Log, stream: str, rows: Array, at: int) -> int:
    """Appends `rows`, with a gap for every step from `at` on that is not among them; returns the step after them."""
    for part in np.split(rows, np.flatnonzero(np.diff(rows["step"].astype(np.int64)) != 1) + 1):
        first = int(part["step"][0])
        if first > at:
            log.append_gap(stream, at, first - 1)
        log.append(stream, part)
        at = first + len(part)
    return at
