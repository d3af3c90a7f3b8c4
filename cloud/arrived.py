"""Rows as an edge sent them, packed or coded: what the gateway looks at, and how they go to the log, coded no more."""

from dataclasses import dataclass

import numpy as np

from user_rl.errors import WireError
from user_rl.log import Log
from user_rl.log.coded import Coded
from user_rl.log.peer import coded_from_peer
from user_rl.rows import Schema
from user_rl.specs import Array

FLAGS = ("source", "is_intervention", "kind", "klass", "next.done", "next.truncated", "next.success")


@dataclass(frozen=True, slots=True)
class Arrived:
    """Consecutive rows. `head` has their headers, and every other field that is not coded."""

    head: Array
    part: Coded | None = None  # None: `head` is all

    @property
    def nbytes(self) -> int:
        """Bytes that are stored."""
        return self.head.nbytes if self.part is None else len(self.part.stored)

    def after(self, count: int) -> "Arrived":
        """Without the first `count` rows."""
        if self.part is None:
            return Arrived(self.head[count:])
        part = self.part.between(count, len(self.head))
        return Arrived(part.plain, part)

    def append_to(self, log: Log, stream: str) -> None:
        """Takes them into the log, to be committed. Raises as `Log.append` does."""
        if self.part is None:
            log.append(stream, self.head)
        else:
            log.append_parts(stream, self.part)


def arrived_from(payload: memoryview, count: int, schema: Schema, *, coded: bool) -> Arrived:
    """The rows in a payload.

    Raises SchemaMismatch for codecs that cannot be used here, WireError for whatever else is wrong with it.
    """
    if coded:
        part = coded_from_peer(payload, count, schema)
        return Arrived(part.plain, part)
    size = count * schema.row_bytes
    if payload.nbytes != size:
        raise WireError(f"{count} rows in {payload.nbytes} bytes, allowed {size}; drop them")
    return Arrived(schema.view(payload))


def find_problem(records: Array, first: int, run: str) -> str:
    """What is wrong with these rows, empty if nothing: steps, run, token and flags are held against their ranges."""
    expected = np.arange(first, first + len(records), dtype=np.uint64)
    checks = [
        ("step", records["step"] != expected, "consecutive steps"),
        ("run", records["run"] != run.encode(), run),
        ("token", records["token"] == 0, "1 or more"),
        *((name, records[name] > 1, "0 or 1") for name in FLAGS),
        ("next.reward", ~np.isfinite(records["next.reward"]), "finite"),
    ]
    for name, wrong, allowed in checks:
        if wrong.any():
            i = int(np.argmax(wrong))
            return f"row {first + i}: {name} = {records[name][i]!r}, allowed {allowed}; drop it"
    return ""
