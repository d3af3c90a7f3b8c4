"""Histogram: how often a duration was how long, from 1 µs to 100 s, in constant memory and to 0.1 %.

Buckets are log-linear, after Gil Tene's HdrHistogram: up to 1024 µs each has a width of 1 µs, then 512 equal ones lie
between a power of two and the next. They are 64-bit counters in whatever memory is given, so that one process may add
while another reads; each word is read whole, a set of them may be one `add` apart.
"""

import math
from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from user_rl.errors import WireError

BITS = 10  # of a duration that are kept
HALF = 1 << (BITS - 1)
LONGEST_US = 10**8  # 100 s; what takes longer counts as this
FORMAT = 1

Counts = NDArray[np.uint64]
_Step = Annotated[int, msgspec.Meta(ge=1, le=2**16)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=2**48)]


def _index(us: int) -> int:
    shift = max(0, us.bit_length() - BITS)
    return shift * HALF + (us >> shift)


LAST = _index(LONGEST_US)
WORDS = LAST + 1
BYTES = 8 * WORDS


class Histogram:
    """Counters over `memory` (`BYTES` zeroed bytes, or what another one has left there); without it, over its own."""

    def __init__(self, memory: memoryview | None = None) -> None:
        own = memoryview(bytearray(BYTES)) if memory is None else memory
        self._words = own[:BYTES].cast("Q")
        self.counts: Counts = np.frombuffer(self._words, np.uint64)  # [WORDS], not a copy

    def add(self, duration_s: float) -> None:
        """Counts one. Less than 1 µs, or less than nothing, is 0."""
        us = int(duration_s * 1e6)
        if us < 2 * HALF:
            self._words[us if us > 0 else 0] += 1
        elif us < LONGEST_US:
            shift = us.bit_length() - BITS
            self._words[shift * HALF + (us >> shift)] += 1
        else:
            self._words[LAST] += 1

    @property
    def count(self) -> int:
        """How many were added."""
        return int(self.counts.sum())

    def percentile(self, percent: float) -> float:
        """Seconds: `percent` % of what was added took no longer, as exactly as the buckets are wide; nan: nothing was.

        100 is the longest.
        """
        totals = self.counts.cumsum()
        if not totals[-1]:
            return math.nan
        rank = max(1, math.ceil(percent / 100 * int(totals[-1])))
        return middle_s(int(np.searchsorted(totals, rank)))

    def copy(self) -> "Histogram":
        """What is there now, in memory of its own."""
        made = Histogram()
        made.counts[:] = self.counts
        return made

    def merge(self, other: "Histogram") -> None:
        """Adds everything that the other has counted."""
        self.counts += other.counts

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was added after `earlier`, a copy of this one."""
        made = Histogram()
        np.subtract(self.counts, earlier.counts, out=made.counts)
        return made

    @property
    def encoded(self) -> bytes:
        """Msgpack: the format's number, then the buckets that are not empty, each as its distance to the last one
        before it and its count."""
        (where,) = self.counts.nonzero()
        return msgspec.msgpack.encode((FORMAT, np.diff(where, prepend=-1).tolist(), self.counts[where].tolist()))


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """One with everything that these have counted."""
    made = Histogram()
    for histogram in histograms:
        made.merge(histogram)
    return made


def histogram_from_bytes(data: bytes) -> Histogram:
    """What `Histogram.encoded` wrote; raises WireError for anything else."""
    try:
        form, steps, counts = msgspec.msgpack.decode(data, type=tuple[int, list[_Step], list[_Count]])
    except msgspec.MsgspecError as error:
        raise WireError(f"a histogram of {len(data)} bytes cannot be read: {error}; drop it") from error
    where = np.cumsum(np.array(steps, np.int64)) - 1
    if form != FORMAT or len(steps) != len(counts) or (len(where) and where[-1] > LAST):
        last = int(where[-1]) if len(where) else 0
        raise WireError(
            f"a histogram of format {form} with {len(steps)} buckets up to {last} and {len(counts)} counts, "
            f"allowed format {FORMAT}, equally many, up to {LAST}; bring both sides to one version"
        )
    made = Histogram()
    made.counts[where] = counts
    return made


def middle_s(index: int) -> float:
    """The duration that stands for a bucket: the middle of those that it counts, 0 for the first."""
    shift = max(0, index // HALF - 1)
    low_us = (index - shift * HALF) << shift
    return (low_us + ((1 << shift) - 1) / 2) * 1e-6
