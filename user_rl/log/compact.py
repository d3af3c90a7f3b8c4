"""Compact: sealed segments of many small chunks become segments of few large ones, the same rows in the same order.

Nobody writes meanwhile, and nobody should read. The new segment is made in a hidden folder, synced and sealed; a child
process holds it against the old one (user_rl.log.sameness); then the two change places at one instant and the old one
goes. A death at any moment leaves the old segment or the new one. Names, row ids, episodes, gaps, spans, cursors and
the time of sealing stay. What is damaged is left as it is, and so is what is still written.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.files import exchange, sync_folder, write_atomically
from user_rl.log.chunk import NUMBER_KEY, SEQ_KEY, STEP_KEY, Span
from user_rl.log.durable import sweep, translated
from user_rl.log.lock import WriterLock, read_identity
from user_rl.log.merging import Plan, check_twice, merged_value, order_value, pieces, plan, schemas_of
from user_rl.log.pins import pins
from user_rl.log.quarantine import problem_of
from user_rl.log.segment import MAP_SLACK, TABLES, Segment, hash_file, is_segment_name
from user_rl.log.verify import WALK_S, check_file, data_bytes

if TYPE_CHECKING:
    from user_rl.log.segment import Txn

STAGE = ".new-compact"  # swept by the next writer
COPIED = ("streams", "gaps", "episodes", "meta")
CHUNKS_A_TIME = 32  # in one transaction: LMDB keeps its pages in memory


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What became of one sealed segment. `problem`: damage, for which it was left as it is."""

    segment: str
    chunks_before: int = 0
    chunks_after: int = 0
    bytes_before: int
    bytes_after: int
    rows_twice: int = 0  # further copies of rows, dropped
    problem: str = ""


def compact(
    path: Path, *, seqs: Collection[int] = (), tell: Callable[[int], None] = lambda _: None
) -> list[Compacted]:  # fmt: skip
    """Compacts the log at `path`, oldest segment first. `seqs`: commits that are named somewhere, beside those of pins.

    `tell` hears of the bytes of the segments that were dealt with. Raises StorageBusy naming the log's writer,
    StorageFull, StorageError where there is no log.
    """
    read_identity(path)
    with closing(WriterLock(path)) as lock, translated(path, 0):
        sweep(path)
        keep = {*seqs, *(seq for pin in pins(path).values() for seq in pin.seqs)}
        done = []
        for folder in _sealed(path):
            done.append(_compact(lock, folder, keep))
            tell(done[-1].bytes_before)
        return done


def sealed_bytes(path: Path) -> int:
    """The bytes that `compact` deals with."""
    return sum(data_bytes(folder) for folder in _sealed(path))


def _sealed(path: Path) -> list[Path]:
    folders = [entry for entry in path.iterdir() if is_segment_name(entry.name) and (entry / "footer.json").exists()]
    return sorted(folders, key=lambda folder: int(folder.name.rpartition("-")[2]))


def _compact(lock: WriterLock, folder: Path, keep: Collection[int]) -> Compacted:
    size = data_bytes(folder)
    left = Compacted(segment=folder.name, bytes_before=size, bytes_after=size)
    for problem in filter(None, (problem_of(folder), *check_file(folder))):  # beyond here the file is what was sealed
        return replace(left, problem=problem)
    try:
        with _staged(folder) as new, closing(Segment(folder)) as segment:
            made = _rewrite(segment, new, keep)
            before = sum(map(len, made.groups)) + len(made.twice)
            left = replace(left, chunks_before=before, chunks_after=before)
            if not made.is_worth_it():
                return left
            _check_same(folder, new)
            done = replace(
                left, chunks_after=len(made.groups), bytes_after=data_bytes(new),
                rows_twice=sum(piece.count for piece in made.twice),
            )  # fmt: skip
            lock.check()
            exchange(new, folder)
            sync_folder(folder.parent)
            return done
    except StorageCorrupt as error:
        return replace(left, problem=str(error))


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Where the new segment is made, gone at the end with what lies there then."""
    stage = folder.parent / STAGE
    stage.mkdir()
    try:
        yield stage / folder.name
    finally:
        shutil.rmtree(stage)


def _rewrite(segment: Segment, new: Path, keep: Collection[int]) -> Plan:
    """Makes the new segment, durably, if it is worth it."""
    schemas = schemas_of(segment)
    with segment.begin() as txn:
        made = plan(pieces(segment, txn), schemas, keep)
        if made.is_worth_it():
            check_twice(segment, txn, made, schemas)
            spans = _spans(segment, made)
            with translated(new, data_bytes(segment.path)):
                _fill(segment, txn, new, made, spans)
                _seal(segment, new, spans)
    return made


def _spans(segment: Segment, made: Plan) -> dict[int, Span]:
    """What is here, without further copies of rows."""
    rows, doubled = dict[int, int](), {piece.number for piece in made.twice}
    for piece in (piece for group in made.groups for piece in group):
        rows[piece.number] = rows.get(piece.number, 0) + piece.count
    spans = dict(segment.spans())
    for number, span in spans.items():
        count = rows.get(number, 0)
        if count != span.rows and number not in doubled:
            raise StorageCorrupt(f"{segment.path}: stream number {number} has {count} rows, written were {span.rows}")
        spans[number] = replace(span, rows=count, covered=span.covered - (span.rows - count))
    return spans


def _fill(segment: Segment, txn: "Txn", new: Path, made: Plan, spans: Mapping[int, Span]) -> None:
    with _environment(new, data_bytes(segment.path)) as env:
        with env.begin(write=True) as into:
            tables = {name: env.open_db(name.encode(), txn=into) for name in TABLES}
            for name in COPIED:
                for key, value in txn.cursor(db=segment.table(name)):
                    into.put(key, value, db=tables[name])
            for number, span in spans.items():
                into.put(NUMBER_KEY.pack(number), span.packed(), db=tables["spans"])
        schemas, groups = schemas_of(segment), iter(made.groups)
        while some := list(islice(groups, CHUNKS_A_TIME)):
            with env.begin(write=True) as into:
                for group in some:
                    number, first = group[0].number, group[0].first
                    chunk = merged_value(segment, txn, group, schemas[number])
                    into.put(STEP_KEY.pack(number, first), chunk, db=tables["chunks"])
                    into.put(SEQ_KEY.pack(group[-1].seq), order_value(group), db=tables["order"])


@contextmanager
def _environment(path: Path, size: int) -> "Iterator[lmdb.Environment]":
    env = lmdb.open(str(path), map_size=2 * size + MAP_SLACK, max_dbs=len(TABLES), lock=False)
    try:
        yield env
    finally:
        env.close()


def _seal(segment: Segment, new: Path, spans: dict[int, Span]) -> None:
    assert segment.footer is not None, "it is sealed"
    size, digest = hash_file(new / "data.mdb")
    rows = sum(span.rows for span in spans.values())
    footer = msgspec.structs.replace(segment.footer, rows=rows, bytes=size, xxh3_128=digest, spans=spans)
    write_atomically(new / "footer.json", msgspec.json.encode(footer))
    sync_folder(new.parent)


def _check_same(old: Path, new: Path) -> None:
    """Raises StorageCorrupt unless a child process finds the same in both."""
    command = [sys.executable, "-c", "from user_rl.log.sameness import main; main()", str(old), str(new)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=WALK_S, check=False)
    except subprocess.TimeoutExpired:
        problems = [f"their comparison takes longer than {WALK_S:.0f} s"]
    else:
        problems = (
            msgspec.json.decode(done.stdout, type=list[str]) if done.returncode == 0 else ["comparing them failed"]
        )
    if problems:
        raise StorageCorrupt(f"{old}: its compact form is not the same: {problems[0]}; restore this segment")
