"""Upkeep: what the owner of a log does between commits: retention, and a look at every sealed segment's bytes.

`step` is called often and does little: it drops at most one segment a second, and starts or asks after the one child
process that verifies a segment. Each sealed segment is verified soon after the writer has come or it was sealed, and
every `verify_hours` again: bits rot later, too. The child is a process of its own because damage in LMDB's tree can
kill who follows it, and nice, because nothing waits for it.
"""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from user_rl.clock import Clock
from user_rl.log.retention import HOUR_S
from user_rl.log.verify import check_file, walk_in_child
from user_rl.log.writer import Log

log = logging.getLogger(__name__)
EVERY_S = 1.0  # between two segments dropped, and between two looks at the child
VERIFY_HOURS = 24.0  # between two looks at a segment
LONGEST_S = 3600.0  # for one segment; a child that takes longer is ended
CHILD = "from user_rl.log.upkeep import main; main()"


class Upkeep:
    """Retention and verification of one Log. Same thread as the Log's."""

    def __init__(self, log_: Log, clock: Clock, *, verify_hours: float = VERIFY_HOURS) -> None:
        self._log, self._clock, self._again_s = log_, clock, verify_hours * HOUR_S
        self._next_s = clock.now_s()
        self._seen: dict[str, float] = {}  # when each segment was verified last
        self._child: _Child | None = None

    def step(self) -> None:
        """Does a little, if it is time."""
        now_s = self._clock.now_s()
        if now_s < self._next_s:
            return
        self._next_s = now_s + EVERY_S
        self._log.retain()
        self._look_after_child(now_s)

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _look_after_child(self, now_s: float) -> None:
        child = self._child
        if child is None:
            self._begin(now_s)
            return
        problems = child.problems(now_s)
        if problems is None:
            return
        self._child = None
        if problems and child.name in self._log.sealed():
            self._log.quarantine(child.name, problems)

    def _begin(self, now_s: float) -> None:
        """Starts a child for the segment that waits longest, if it is time for any."""
        sealed = self._log.sealed()
        self._seen = {name: at_s for name, at_s in self._seen.items() if name in sealed}
        name = min(sealed, key=lambda name: self._seen.get(name, -math.inf), default=None)
        if name is not None and now_s >= self._seen.get(name, -math.inf) + self._again_s:
            self._seen[name] = now_s
            self._child = _Child(self._log.path, name, now_s + LONGEST_S)


class _Child:
    """The process that verifies one segment."""

    def __init__(self, path: Path, name: str, until_s: float) -> None:
        self.name, self._until_s = name, until_s
        command = [sys.executable, "-c", CHILD, str(path / name)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def problems(self, now_s: float) -> list[str] | None:
        """What it found, None while it works. A walk that dies is told in it; a child that fails tells nothing."""
        code = self._process.poll()
        if code is None and now_s < self._until_s:
            return None
        output = self.end()
        if code == 0:
            return msgspec.json.decode(output, type=list[str])
        log.warning("segment %s was not verified: its child ended with %s", self.name, code)
        return []

    def end(self) -> bytes:
        """Ends it if it lives; returns what it said."""
        self._process.kill()
        return self._process.communicate()[0]


def main() -> None:
    """The child's whole program: what is wrong with a segment, a few lines at most."""
    os.nice(19)
    folder = Path(sys.argv[1])
    problems = check_file(folder) or walk_in_child(folder)
    sys.stdout.buffer.write(msgspec.json.encode([line[:500] for line in problems[:8]]))
