"""Recorder: from what the loop saw and did to a row in the ring, in a few microseconds.

An observation is copied into the ring's next slot at once, for a driver may reuse its buffers; the rest of the row
follows when the step is over, then the slot is published. Counters are those of the ring's last row, so a restarted
control goes on in the same boot with the next step and the next episode.

A row's version is its proposal's, so it may change within an episode. Where nothing was proposed (demonstrations),
version, hash and `action.proposed` are zeros. A closing row has the version of the row before it; everything else of it
but the observation and the counters is zero.
"""

import struct
from dataclasses import dataclass

import msgspec
import numpy as np

from edge.acting import Proposal
from edge.ring import Ring
from hal.cell import Observation
from user_rl.errors import ConfigError
from user_rl.rows import HEADER, Field, Kind, Klass, Source
from user_rl.specs import Array

_CODES = {"<u8": "Q", "<u4": "I", "u1": "B", "<f8": "d", "<f4": "f"}
NO_HASH = bytes(16)


@dataclass(frozen=True, kw_only=True)
class Heading:
    """What all rows of one episode share."""

    generation: int
    run: str
    token: int
    klass: Klass
    clock_offset_s: float = 0.0


class Step(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What happened after an observation. `proposal` is None where nothing was proposed."""

    stamp_s: float
    proposal: Proposal | None
    executed: Array
    sent: Array
    source: Source
    is_intervention: bool
    reward: float
    done: bool
    truncated: bool
    success: bool


class Recorder:
    """The ring's only writer. One thread."""

    def __init__(self, ring: Ring, *, task: str) -> None:
        self.ring, self._task, self._rows = ring, name48("task", task), ring.rows
        self._header = struct.Struct("<" + "".join(_code(f) for f in HEADER))
        names = ring.schema.observation
        self._columns = [(name, self._rows[name], self._rows[f"stamp.{name}"]) for name in names]
        self._actions = [self._rows[name] for name in ("action", "action.proposed", "action.sent")]
        self._zeros = np.zeros(ring.schema.action.shape, np.float32)
        self._run, self._hash = b"", NO_HASH
        self._heading: Heading | None = None
        self.version = self.step = self.episode = self.frame = self._slot = 0

    def counters(self, generation: int) -> tuple[int, int]:
        """The next step and the next episode in the stream of `generation`."""
        last = self.ring.last()
        if last is None or last.generation != generation:
            return 0, 0
        return int(last.rows["step"][0]) + 1, int(last.rows["episode"][0]) + 1

    def begin(self, heading: Heading) -> None:
        """A new episode."""
        self._heading, self._run, self.frame = heading, name48("run", heading.run), 0
        self.version, self._hash = 0, NO_HASH
        self.step, self.episode = self.counters(heading.generation)

    def observe(self, seen: Observation) -> None:
        """Copies the observation of the row that `act` or `close` will finish."""
        slot = self._slot = self.ring.slot()
        for name, values, stamps_s in self._columns:
            values[slot] = seen.values[name]
            stamps_s[slot] = seen.stamps_s[name]

    def act(self, step: Step) -> None:
        """Finishes and publishes a row of kind STEP."""
        slot, (executed, proposed, sent) = self._slot, self._actions
        executed[slot], sent[slot] = step.executed, step.sent
        if step.proposal is None:
            proposed[slot], self.version, self._hash = self._zeros, 0, NO_HASH
        else:
            proposed[slot] = step.proposal.action
            self.version, self._hash = step.proposal.version, step.proposal.version_hash
        self._publish(slot, Kind.STEP, step.source, step.is_intervention, step)

    def close(self, seen: Observation) -> None:
        """Publishes the closing row, if the episode has any row."""
        if self.frame:
            self.observe(seen)
            for column in self._actions:
                column[self._slot] = self._zeros
            self._publish(self._slot, Kind.LAST, Source.POLICY, False, None)

    def _publish(self, slot: int, kind: Kind, source: Source, is_intervention: bool, step: Step | None) -> None:
        h = self._heading
        assert h is not None, "begin() comes first"
        after = (0.0, False, False, False) if step is None else (step.reward, step.done, step.truncated, step.success)
        self._header.pack_into(
            self.ring.bytes, slot * self._rows.itemsize, self.step, self.episode, self.frame, kind, source,
            is_intervention, h.klass, self.version, self._hash, self._run, h.token, self._task,
            0.0 if step is None else step.stamp_s, h.clock_offset_s, *after,
        )  # fmt: skip
        self.ring.publish(h.generation)
        self.step += 1
        self.frame += 1


def name48(what: str, name: str) -> bytes:
    """`name` as a row's column holds it; raises ConfigError when it does not fit."""
    data = name.encode()
    if len(data) > 48:
        raise ConfigError(f"{what} {name!r} has {len(data)} bytes, allowed 48; give it a shorter name")
    return data


def _code(field: Field) -> str:
    if field.dtype.startswith("S"):
        return f"{field.dtype[1:]}s"
    return f"{field.shape[0]}s" if field.shape else _CODES[field.dtype]
