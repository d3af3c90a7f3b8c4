"""The episode table: what the rows of each episode add up to, written in the transaction that writes the rows.

A segment holds the part of an episode that lies in it; `merged` joins the parts, so that the table always says what the
log still has. An episode that a crash cut stays open: `closed` is true only once its LAST row is there.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct

import numpy as np

from user_rl.row_head import head_of
from user_rl.rows import Kind, Klass
from user_rl.specs import Array

STEP = int(Kind.STEP)


@dataclass(frozen=True, slots=True)
class Episode:
    """One episode, as far as the log has it. `length` counts transitions: rows less one."""

    stream: str
    episode: int
    klass: Klass
    first_step: int
    length: int
    reward_sum: float
    success: bool
    interventions: int  # rows with is_intervention
    version: int  # the weights that acted in its first row
    closed: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What one segment has of one episode."""

    first_step: int
    rows: int
    reward_sum: float
    success: bool
    interventions: int
    version: int
    closed: bool

    FORM = Struct("<QId?IQ?")

    def packed(self) -> bytes:
        return self.FORM.pack(
            self.first_step, self.rows, self.reward_sum, self.success, self.interventions, self.version, self.closed
        )

    def joined(self, later: "Part") -> "Part":
        """This part and the one that follows it."""
        return Part(
            first_step=self.first_step,
            rows=self.rows + later.rows,
            reward_sum=self.reward_sum + later.reward_sum,
            success=self.success or later.success,
            interventions=self.interventions + later.interventions,
            version=self.version,
            closed=self.closed or later.closed,
        )


def part_from_value(value: memoryview) -> Part:
    """Reads back `Part.packed`."""
    return Part(*Part.FORM.unpack(value))


def parts_of(rows: Array) -> Iterator[tuple[int, Part]]:
    """(episode, Part) for each run of rows of one episode, in order."""
    if len(rows) == 1:
        yield _part_of_one(rows)
        return
    number = rows["episode"]
    starts = [0, *(np.flatnonzero(number[1:] != number[:-1]) + 1).tolist(), len(rows)]
    for start, end in pairwise(starts):
        run = rows[start:end]
        yield int(run["episode"][0]), _part(run)


def _part(run: Array) -> Part:
    steps = run["kind"] == Kind.STEP
    return Part(
        first_step=int(run["step"][0]),
        rows=len(run),
        reward_sum=float(run["next.reward"][steps].sum(dtype=np.float64)),
        success=bool(run["next.success"].any()),
        interventions=int(np.count_nonzero(run["is_intervention"])),
        version=int(run["version"][0]),
        closed=not steps.all(),
    )


def _part_of_one(row: Array) -> tuple[int, Part]:
    head = head_of(row)
    step = head.kind == STEP
    return head.episode, Part(
        first_step=head.step,
        rows=1,
        reward_sum=head.reward if step else 0.0,
        success=head.success > 0,
        interventions=int(head.is_intervention > 0),
        version=head.version,
        closed=not step,
    )


def merged(found: Iterable[tuple[str, int, Klass, Part]]) -> list[Episode]:
    """One Episode for each (stream, episode, class), in order of stream and first step."""
    whole: dict[tuple[str, int, Klass], Part] = {}
    for stream, episode, klass, part in sorted(found, key=lambda item: (item[0], item[3].first_step)):
        key = (stream, episode, klass)
        whole[key] = whole[key].joined(part) if key in whole else part
    return [_episode(*key, part) for key, part in whole.items()]


def _episode(stream: str, episode: int, klass: Klass, part: Part) -> Episode:
    return Episode(
        stream=stream,
        episode=episode,
        klass=klass,
        first_step=part.first_step,
        length=part.rows - 1,
        reward_sum=part.reward_sum,
        success=part.success,
        interventions=part.interventions,
        version=part.version,
        closed=part.closed,
    )
