"""Episodes told from rows as they arrive: how long, how good, whose hand, and when one is over.

An episode is closed by its LAST row, as in the log's own table (`Reader.episodes`); one that a crash cut never closes
and never counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from user_rl.row_head import head_of
from user_rl.rows import Kind, Klass
from user_rl.specs import Array

STEP, LAST, ONLINE = int(Kind.STEP), int(Kind.LAST), int(Klass.ONLINE)


@dataclass(frozen=True, kw_only=True)
class EpisodeSum:
    """What is known of one episode so far."""

    episode: int
    klass: int
    length: int = 0  # transitions
    reward_sum: float = 0.0
    success: bool = False
    interventions: int = 0  # rows
    closed: bool = False


class EpisodeTally:
    """Follows the open episode of every stream."""

    def __init__(self) -> None:
        self._open: dict[str, EpisodeSum] = {}

    def resume(self, stream: str, episode: EpisodeSum) -> None:
        """Goes on with an episode that was open before this tally began."""
        self._open[stream] = episode

    def add(self, stream: str, records: Array) -> list[EpisodeSum]:
        """Takes the next rows of `stream` and returns the episodes that they closed."""
        if len(records) == 1:
            return self._add_one(stream, records)
        closed = []
        for part in parts_by_episode(records):
            known = self._open.pop(stream, None)
            if known is None or known.episode != part["episode"][0]:
                known = EpisodeSum(episode=int(part["episode"][0]), klass=int(part["klass"][0]))
            now = _with_rows(known, part)
            if now.closed:
                closed.append(now)
            else:
                self._open[stream] = now
        return closed

    def _add_one(self, stream: str, record: Array) -> list[EpisodeSum]:
        """As `add`, of a single row."""
        head, known = head_of(record), self._open.pop(stream, None)
        if known is None or known.episode != head.episode:
            known = EpisodeSum(episode=head.episode, klass=head.klass)
        step = head.kind == STEP
        now = EpisodeSum(
            episode=known.episode, klass=known.klass, length=known.length + step,
            reward_sum=known.reward_sum + (head.reward if step else 0.0),
            success=known.success or (step and head.success > 0),
            interventions=known.interventions + (step and head.is_intervention > 0),
            closed=head.kind == LAST,
        )  # fmt: skip
        if now.closed:
            return [now]
        self._open[stream] = now
        return []


def parts_by_episode(records: Array) -> Iterator[Array]:
    """Views of `records`, one per episode and retention class, in order."""
    changed = (np.diff(records["episode"].astype(np.int64)) != 0) | (np.diff(records["klass"].astype(np.int16)) != 0)
    edges = [0, *(np.flatnonzero(changed) + 1).tolist(), len(records)]
    for start, end in pairwise(edges):
        if end > start:
            yield records[start:end]


def online_steps(records: Array) -> int:
    """How many of these rows are steps that a robot took online: what the limiter and the permit count."""
    if len(records) == 1:
        head = head_of(records)
        return int(head.kind == STEP and head.klass == ONLINE)
    return int(np.count_nonzero((records["kind"] == Kind.STEP) & (records["klass"] == Klass.ONLINE)))


def _with_rows(known: EpisodeSum, part: Array) -> EpisodeSum:
    steps = part[part["kind"] == Kind.STEP] if part["kind"].any() else part
    return replace(
        known,
        length=known.length + len(steps),
        reward_sum=known.reward_sum + float(steps["next.reward"].sum()),
        success=known.success or bool(steps["next.success"].any()),
        interventions=known.interventions + int(np.count_nonzero(steps["is_intervention"])),
        closed=bool(part["kind"][-1] == Kind.LAST),
    )
