"""Sameness: whether a compacted segment has what the old one has: the child process of `compact`.

Compared are every row's bytes as they are stored (for pictures the coded blobs), in commit order, through one digest
for each stream, and every other table. Rows that stood twice are left out of the old one.
"""

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import xxhash

from user_rl.errors import StorageError
from user_rl.log.chunk import RAW, TRAILER, trailer_of
from user_rl.log.coded import Coded
from user_rl.log.merging import Piece, pieces, plan, schemas_of, value_of
from user_rl.log.segment import Segment
from user_rl.log.verify import check_file
from user_rl.log.walk import walk
from user_rl.rows import Schema

TABLES = ("streams", "gaps", "episodes", "meta")  # the same to the byte
FOOTER = ("format", "klass", "first_seq", "last_seq", "sealed_s", "steps", "interventions")


def differences(old: Path, new: Path) -> list[str]:
    """What the new segment has not, or has otherwise; empty: it is the same."""
    problems = check_file(new) + walk(new).problems
    one, other = _seen(old), _seen(new)
    return problems + [f"{what} are not the same" for what in one if one[what] != other[what]]


def _seen(folder: Path) -> dict[str, Any]:
    """What must be the same."""
    with closing(Segment(folder)) as segment, segment.begin() as txn:
        schemas = schemas_of(segment)
        kept = [piece for group in plan(pieces(segment, txn), schemas, ()).groups for piece in group]
        digests = dict[tuple[int, bytes, int], xxhash.xxh3_128]()
        for piece in kept:
            value = value_of(segment, txn, piece)
            for part, data in enumerate(_parts(piece, value, schemas[piece.number])):
                digests.setdefault((piece.number, piece.codecs, part), xxhash.xxh3_128()).update(data)
        tables = {f"the {name}": _bytes(segment, txn, name) for name in TABLES}
    rows = {key: digest.hexdigest() for key, digest in digests.items()}
    footer = [getattr(segment.footer, name) for name in FOOTER]
    return {"rows": rows, "orders of rows": _runs(kept), "footers": footer, **tables}


def _parts(piece: Piece, value: memoryview, schema: Schema) -> list[Any]:
    """The stored bytes of a chunk's rows, in parts that add up over chunks."""
    stored = value[: -TRAILER.size]
    if trailer_of(value)[1] == RAW:
        return [stored]
    coded = Coded(stored, piece.count, schema.dtype)
    lengths = [np.diff(ends) for ends, _ in coded.columns]
    return [coded.plain.tobytes(), *lengths, *(blobs for _, blobs in coded.columns)]


def _runs(kept: list[Piece]) -> list[list[int]]:
    """[stream number, first, last step] of runs of rows in commit order, however they are cut into chunks."""
    runs: list[list[int]] = []
    for piece in kept:
        if runs and runs[-1][0] == piece.number and runs[-1][2] + 1 == piece.first:
            runs[-1][2] = piece.last
        else:
            runs.append([piece.number, piece.first, piece.last])
    return runs


def _bytes(segment: Segment, txn: Any, name: str) -> list[tuple[bytes, bytes]]:  # noqa: ANN401  # LMDB's transaction
    return [(bytes(key), bytes(value)) for key, value in txn.cursor(db=segment.table(name))]


def main() -> None:
    """The child's whole program: old and new folder."""
    try:
        problems = differences(Path(sys.argv[1]), Path(sys.argv[2]))
    except StorageError as error:
        problems = [str(error)]
    sys.stdout.buffer.write(msgspec.json.encode(problems[:8]))
