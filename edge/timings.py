"""Timings: where the time of control's steps goes, as histograms in the memory that control and link share.

Control adds to them, step by step, in real pace; link reads them and nothing else happens. Beside each lies what link
has told of it already, so that a link that was killed leaves its successor neither a sample twice nor a hole.
"""

import numpy as np

from user_rl.clock import Clock
from user_rl.histogram import BYTES as EACH
from user_rl.histogram import LAST, LONGEST_US, Histogram

NAMES = {
    "observe": "the cell was observed",
    "propose": "actor and operator were asked",
    "record": "the row was written",
    "command": "the robot was commanded",
    "judge": "the task judged",
    "work": "all of these, without the wait",
    "late": "the step began after its deadline by",
    "age": "of the oldest observation, when the command was sent",
}
OBSERVE, PROPOSE, RECORD, COMMAND, JUDGE, WAIT = range(6)
BYTES = 2 * len(NAMES) * EACH


class Timings:
    """One process's map of `memory` (`BYTES`, zeroed at first)."""

    def __init__(self, memory: memoryview) -> None:
        pieces = [memory[i * EACH : (i + 1) * EACH] for i in range(2 * len(NAMES))]
        self._now = [Histogram(piece) for piece in pieces[: len(NAMES)]]
        self._told = [Histogram(piece) for piece in pieces[len(NAMES) :]]
        self._words = [piece.cast("Q") for piece in pieces[: len(NAMES)]]

    def add(self, durations_s: list[float]) -> None:
        """One step's, in the order of NAMES: `Histogram.add` for each without the calls, for this is in the loop."""
        for words, duration_s in zip(self._words, durations_s, strict=True):
            us = int(duration_s * 1e6)
            if us < 1024:
                words[us if us > 0 else 0] += 1
            elif us < LONGEST_US:
                shift = us.bit_length() - 10
                words[(shift << 9) + (us >> shift)] += 1
            else:
                words[LAST] += 1

    def take(self) -> dict[str, Histogram]:
        """What was added since the last `take`, whichever process did that."""
        news = {}
        for name, now, told in zip(NAMES, self._now, self._told, strict=True):
            current = now.copy()
            news[name] = current.since(told)
            np.copyto(told.counts, current.counts)
        return news


class Watch:
    """Control's stopwatch: `begin` a step, a `lap` for each part of it, `end`. Without timings it tells the time."""

    def __init__(self, clock: Clock, timings: Timings | None) -> None:
        self._now_s, self._timings = clock.now_s, timings
        self._parts_s = [0.0] * 6
        self._began_s = self._last_s = self._late_s = 0.0

    def begin(self, due_s: float) -> None:
        """A step begins now that should have at `due_s`."""
        self._began_s = self._last_s = self._now_s()
        self._late_s = self._began_s - due_s
        self._parts_s[RECORD] = 0.0

    def lap(self, part: int) -> float:
        """`part` (OBSERVE … WAIT) has ended; returns the time. Only RECORD has several laps in a step."""
        now_s = self._now_s()
        took_s = now_s - self._last_s
        self._parts_s[part] = self._parts_s[part] + took_s if part == RECORD else took_s
        self._last_s = now_s
        return now_s

    def end(self, age_s: float) -> None:
        """The step is over; `age_s`: of its oldest observation, when its command was sent."""
        if self._timings is not None:
            *parts_s, waited_s = self._parts_s
            self._timings.add([*parts_s, self._last_s - self._began_s - waited_s, self._late_s, age_s])
