"""Latency: how long something took lately, and when to ask for the next chunk because of it. Pure."""

import math
from collections import deque

from edge.inference.config import InferenceConfig

MOST = 256  # samples
P = 0.95


class Recent:
    """The samples of the last `span_s` seconds, [s]."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=MOST)

    def add(self, took_s: float, now_s: float) -> None:
        """One more."""
        self._samples.append((now_s, took_s))

    def p95_s(self, now_s: float) -> float | None:
        """Their 95th percentile, the lower of two between which it lies: one of a few is no rule. None: no sample."""
        while self._samples and now_s - self._samples[0][0] > self._span_s:
            self._samples.popleft()
        ordered = sorted(took_s for _, took_s in self._samples)
        return ordered[int(P * (len(ordered) - 1))] if ordered else None


def steps_of(took_s: float, period_s: float) -> int:
    """After how many steps something is usable that begins with a step and takes so long: at least one."""
    return max(1, math.ceil(took_s / period_s - 1e-9))


class Asking:
    """When to ask. One chunk is under way, two where the latency is more than half the horizon."""

    def __init__(self, config: InferenceConfig) -> None:
        self._config = config
        self._under_way: dict[int, float] = {}  # step asked for → when it is of no use any more
        self._asked: int | None = None

    @property
    def under_way(self) -> int:
        """Requests that have no answer yet."""
        return len(self._under_way)

    def due(self, step: int, remaining: int, latency_steps: int) -> bool:
        """Whether to ask with the observation of `step`, from which `remaining` steps on have an action.

        `latency_steps`: after how many an answer is usable.
        """
        config = self._config
        if self._asked is None or step < self._asked:
            return not self._under_way
        since = step - self._asked
        if self._under_way:
            return 2 * latency_steps > config.horizon and len(self._under_way) < 2 and since >= config.execute
        return since >= config.execute or (since > 0 and remaining <= latency_steps + config.margin)

    def asked(self, step: int, until_s: float) -> None:
        """The observation of `step` is on its way; after `until_s` its answer is of no use."""
        self._asked = step
        self._under_way[step] = until_s

    def answered(self, step: int) -> bool:
        """Whether this step was asked for and not answered before."""
        return self._under_way.pop(step, None) is not None

    def overdue(self, now_s: float) -> list[int]:
        """The steps whose answers will not come any more; they are not under way any more."""
        gone = [step for step, until_s in self._under_way.items() if now_s >= until_s]
        for step in gone:
            del self._under_way[step]
        return gone

    def forget(self) -> None:
        """Another episode or another server: nothing of what was asked is wanted."""
        self._under_way.clear()
        self._asked = None
