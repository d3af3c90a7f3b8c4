"""Rows as an edge sent them, packed or coded: what the gateway looks at, and how they go to the log, coded no more."""

from dataclasses import dataclass

from cloud.row_checks import Refusal
from user_rl.errors import SchemaMismatch, WireError
from user_rl.log import Log
from user_rl.log.coded import Coded
from user_rl.log.peer import coded_from_peer
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.wire import Rows


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


def arrived_from(rows: Rows, payload: memoryview, schema: Schema) -> Arrived:
    """The rows in a message's payload; raises Refusal for what they cannot be."""
    try:
        if rows.coded:
            part = coded_from_peer(payload, rows.count, schema)
            return Arrived(part.plain, part)
    except SchemaMismatch as error:
        raise Refusal(rows.stream, "schema", str(error)) from error
    except WireError as error:
        raise Refusal(rows.stream, "malformed", str(error)) from error
    size = rows.count * schema.row_bytes
    if payload.nbytes != size:
        text = f"{rows.count} rows in {payload.nbytes} bytes, allowed {size}; drop them"
        raise Refusal(rows.stream, "malformed", text)
    return Arrived(schema.view(payload))
