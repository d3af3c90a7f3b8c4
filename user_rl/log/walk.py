"""Walks segments and prints what is wrong with them: the child process of `verify`.

It is a process of its own because a flipped bit in a page of LMDB's tree can kill whoever follows it.
"""

import sys
from contextlib import closing
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt, StorageError
from user_rl.log.chunk import ORDER_VALUE, STEP_KEY, Span, check_value
from user_rl.log.segment import Segment
from user_rl.rows import schema_from_bytes


class Walk(msgspec.Struct):
    """What a walk found. `runs` are [first, last] of the rows of each stream, in order."""

    problems: list[str]
    runs: dict[str, list[tuple[int, int]]]


def walk(path: Path) -> Walk:
    """Reads every chunk of a segment and holds it against its digest, the order table and the counts."""
    found = Walk([], {})
    try:
        with closing(Segment(path)) as segment:
            _check_chunks(segment, found)
            _check_counts(segment, found)
    except StorageError as error:
        found.problems.append(str(error))
    return found


def _check_chunks(segment: Segment, found: Walk) -> None:
    names = {entry.number: (name, entry) for name, entry in segment.streams().items()}
    sizes = {number: schema_from_bytes(entry.schema).row_bytes for number, (_, entry) in names.items()}
    with segment.begin() as txn:
        keys = {ORDER_VALUE.unpack(value)[:2] for _, value in txn.cursor(db=segment.table("order"))}
        for key, value in txn.cursor(db=segment.table("chunks")):
            number, first = STEP_KEY.unpack(key)
            name = names[number][0] if number in names else f"number {number}"
            if number not in names or (number, first) not in keys:
                found.problems.append(f"{segment.path}: stream {name}, step {first}: a chunk that no table names")
                continue
            keys.discard((number, first))
            if problem := _check_chunk(found, name, first, sizes[number], value):
                found.problems.append(f"{segment.path}: {problem}")
        for number, first in sorted(keys):
            found.problems.append(f"{segment.path}: stream {number}, step {first}: this chunk is missing; restore it")


def _check_chunk(found: Walk, name: str, first: int, row_bytes: int, value: memoryview) -> str:
    runs = found.runs.setdefault(name, [])
    try:
        last = first + check_value(name, first, row_bytes, value)[0] - 1
    except StorageCorrupt as error:
        return str(error)
    if runs and runs[-1][1] + 1 == first:
        runs[-1] = (runs[-1][0], last)
    else:
        runs.append((first, last))
    return ""


def _check_counts(segment: Segment, found: Walk) -> None:
    numbers = {name: entry.number for name, entry in segment.streams().items()}
    for name, number in numbers.items():
        span = segment.span(number) or Span(number, 0, 0, 0, 0)
        rows = sum(last - first + 1 for first, last in found.runs.get(name, []))
        if rows != span.rows:
            found.problems.append(f"{segment.path}: stream {name} has {rows} sound rows, written were {span.rows}")


def main() -> None:
    """The child's whole program."""
    sys.stdout.buffer.write(msgspec.json.encode([walk(Path(folder)) for folder in sys.argv[1:]]))
