"""Rows: what one control step leaves behind, as a packed record that is the same in memory, on disk and on the wire.

A row is known for ever by (cell, boot, step). A record is a numpy structured scalar: the ring between the edge's
processes, the experience log and the replay all map the same bytes. Each episode of T steps has T+1 rows: the last one
(`kind` LAST) holds the observation after the last action, so that `next` is always the following row of its stream.

Fields. step, episode, frame_index: counters in the boot, the boot, the episode. kind, source, klass: the enums below.
version, version_hash: the weights that acted (0 and zeros: none). run, token: the lease under which it was recorded.
stamp.*: seconds on the edge's monotonic clock; clock_offset_s: estimated cloud time minus edge time.
action: executed; action.proposed: the policy's; action.sent: after the guards. Names of stored data are LeRobot's.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from user_rl.errors import SchemaMismatch
from user_rl.specs import Array, Box, Image, Spec

FORMAT = 1  # the number of this layout; a reader refuses another


class Kind(IntEnum):
    """What a row is in its episode."""

    STEP = 0  # an observation, and the action taken there
    LAST = 1  # the observation after the last action; its action and reward are zero and mean nothing


class Source(IntEnum):
    """Who chose the executed action."""

    POLICY = 0
    TELEOP = 1


class Klass(IntEnum):
    """The retention class, one per episode."""

    ONLINE = 0
    DEMONSTRATION = 1


def cell_of(stream: str) -> str:
    """The cell whose rows a stream (`cell/boot/run`) holds."""
    return stream.partition("/")[0]


class Field(msgspec.Struct, frozen=True):
    """One column of a row: name, numpy dtype, shape, unit."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    unit: str = ""


HEADER = (
    Field("step", "<u8"), Field("episode", "<u4"), Field("frame_index", "<u4"),
    Field("kind", "u1"), Field("source", "u1"), Field("is_intervention", "u1"), Field("klass", "u1"),
    Field("version", "<u8"), Field("version_hash", "u1", (16,)),
    Field("run", "S48"), Field("token", "<u8"), Field("task", "S48"),
    Field("stamp.action", "<f8", (), "s"), Field("clock_offset_s", "<f8", (), "s"),
    Field("next.reward", "<f4"), Field("next.done", "u1"), Field("next.truncated", "u1"), Field("next.success", "u1"),
)  # fmt: skip


@dataclass(frozen=True)
class Schema:
    """The columns of one stream, in order. A changed schema is a new stream."""

    fields: tuple[Field, ...]
    action: Box
    observation: dict[str, Spec]

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The packed numpy dtype of one record."""
        return np.dtype([(f.name, f.dtype, f.shape) for f in self.fields])

    @cached_property
    def pictures(self) -> tuple[str, ...]:
        """The fields that a camera fills. Where their `stamp.` is NaN they were not recorded, and are zero."""
        return tuple(name for name, spec in self.observation.items() if isinstance(spec, Image))

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize

    @cached_property
    def encoded(self) -> bytes:
        """The schema as canonical msgpack; `schema_from_bytes` reads it back."""
        tree = {"format": FORMAT, "action": self.action, "observation": dict(sorted(self.observation.items()))}
        return msgspec.msgpack.encode(tree, order="deterministic")

    @cached_property
    def digest(self) -> str:
        """32 hex digits that two sides compare before any row crosses."""
        return hashlib.blake2b(self.encoded, digest_size=16).hexdigest()

    def new(self, count: int = 1) -> Array:
        """`count` zeroed records."""
        return np.zeros(count, self.dtype)

    def view(self, data: bytes | bytearray | memoryview) -> Array:
        """The records that lie in `data`, without a copy; raises SchemaMismatch for a broken length."""
        if len(data) % self.row_bytes:
            raise SchemaMismatch(
                f"{len(data)} bytes are no whole number of {self.row_bytes}-byte rows of schema {self.digest[:8]}; "
                "both sides must run the same configuration"
            )
        return np.frombuffer(data, self.dtype)


def make_schema(observation: Mapping[str, Spec], action: Box) -> Schema:
    """The row schema of a cell that observes `observation` and is commanded by `action`."""
    columns: list[Field] = []
    for name, spec in sorted(observation.items()):
        columns += [Field(f"stamp.{name}", "<f8", (), "s"), Field(name, np.dtype(spec.dtype).str, spec.shape)]
    actions = [Field(name, "<f4", action.shape) for name in ("action", "action.proposed", "action.sent")]
    return Schema((*HEADER, *columns, *actions), action, dict(sorted(observation.items())))


class _Tree(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    action: dict[str, Any]
    observation: dict[str, dict[str, Any]]


def schema_from_bytes(data: bytes) -> Schema:
    """The schema that `Schema.encoded` wrote; raises SchemaMismatch for anything else."""
    try:
        tree = msgspec.msgpack.decode(data, type=_Tree)
        if tree.format != FORMAT:
            raise SchemaMismatch(f"row format {tree.format}, allowed {FORMAT}; bring both sides to one version")
        observation = {name: _spec(spec) for name, spec in tree.observation.items()}
        return make_schema(observation, msgspec.convert(tree.action, Box))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SchemaMismatch(f"a schema of {len(data)} bytes cannot be read: {error}") from error


def _spec(tree: dict[str, Any]) -> Spec:
    return msgspec.convert(tree, Box) if "names" in tree else msgspec.convert(tree, Image)
