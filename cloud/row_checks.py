"""What the gateway holds rows and Hellos against, and the refusal that it answers with."""

import math

import numpy as np

from user_rl.errors import SpecError, WireError
from user_rl.row_head import head_of
from user_rl.rows import Schema, schema_from_bytes
from user_rl.specs import Array
from user_rl.wire import Hello, Limits, RefusedCode

MAX_ROW_BYTES = Limits().payload_bytes
FLAGS = ("source", "is_intervention", "kind", "klass", "next.done", "next.truncated", "next.success")


class Refusal(WireError):
    """A message about `stream` that is turned away with `code`."""

    def __init__(self, stream: str, code: RefusedCode, text: str) -> None:
        super().__init__(text)
        self.stream, self.code = stream, code


def read_schema(hello: Hello) -> Schema:
    """The schema that a Hello names; raises Refusal for one that cannot be."""
    try:
        schema = schema_from_bytes(hello.schema)
        size = schema.row_bytes
    except (WireError, SpecError, ValueError) as error:
        raise Refusal(hello.stream, "schema", f"a schema that cannot be read: {error}") from error
    if size > MAX_ROW_BYTES:
        text = f"rows of {size} bytes, allowed {MAX_ROW_BYTES}; use smaller or fewer images"
        raise Refusal(hello.stream, "schema", text)
    return schema


def find_problem(records: Array, first: int, run: str) -> str:
    """What is wrong with these rows, empty if nothing: steps, run, token and flags are held against their ranges."""
    if len(records) == 1 and _is_sound(records, first, run):
        return ""
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


def _is_sound(record: Array, first: int, run: str) -> bool:
    """Whether one row has no problem; where it may have one, the checks above say which."""
    head = head_of(record)
    flags = head.source | head.is_intervention | head.kind | head.klass | head.done | head.truncated | head.success
    right = head.step == first and head.token > 0 and head.run.rstrip(b"\0") == run.encode()
    return right and flags <= 1 and math.isfinite(head.reward)
