"""Survey: what a log holds, segment by segment and stream by stream, for people and programs. No row is read."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import msgspec

from user_rl.log.chunk import CODED, Span
from user_rl.log.episodes import Episode
from user_rl.log.pins import pins
from user_rl.log.quarantine import Reason, problem_of, readable_footer, set_aside_before
from user_rl.log.reader import Reader
from user_rl.log.segment import is_segment_name
from user_rl.log.tally import Count, Tally
from user_rl.log.verify import data_bytes
from user_rl.rows import Klass

REFS = 100_000  # chunks listed at a time


@dataclass(frozen=True, kw_only=True)
class SegmentLine:
    """One segment. `state`: written, sealed, damaged."""

    name: str
    klass: str
    rows: int
    bytes: int
    chunks: int
    coded_chunks: int
    age_s: float | None  # since it was sealed; None: it is written, or does not say
    pins: list[str]
    state: str
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class StreamLine:
    """One stream: `missing` rows are before its cursor and neither here nor in a gap."""

    name: str
    cursor: int
    first_kept: int
    rows: int
    gap_rows: int
    missing: int
    episodes: int
    successes: int
    demonstrations: int
    interventions: int


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A whole log."""

    path: str
    log_id: str
    segments: list[SegmentLine]
    streams: list[StreamLine]
    columns: list[str]  # the late columns' folders
    gone: Count
    quarantine: list[Reason]


def survey(path: Path, now_s: float) -> tuple[Survey, list[Episode]]:
    """What the log at `path` holds, and its episodes. `now_s`: the wall clock. Raises StorageError if there is none."""
    with Reader(path) as reader:
        spans, episodes = reader.spans(), reader.episodes()
        forms = _forms(reader)
        streams = [_stream(reader, name, spans, episodes) for name in sorted(reader.streams())]
        log_id = reader.log_id
    holders = pins(path)
    pinned = {name: [h for h, pin in holders.items() if name in pin.segments] for name in _names(path)}
    rows = {name: sum(span.rows for span in found.values()) for name, found in spans.items()}
    segments = [_segment(path / name, rows.get(name, 0), forms, pinned[name], now_s) for name in pinned]
    found = Survey(
        path=str(path), log_id=log_id, segments=segments, streams=streams, columns=_columns(path),
        gone=Tally(path).count(), quarantine=set_aside_before(path),
    )  # fmt: skip
    return found, episodes


def _names(path: Path) -> list[str]:
    """By age."""
    names = [entry.name for entry in path.iterdir() if is_segment_name(entry.name)]
    return sorted(names, key=lambda name: int(name.rpartition("-")[2]))


def _forms(reader: Reader) -> Counter[tuple[str, int]]:
    """Chunks by segment and form."""
    found, seq = Counter[tuple[str, int]](), 0
    while refs := reader.refs(seq, REFS):
        found.update((ref.segment, ref.form) for ref in refs)
        seq = refs[-1].seq
    return found


def _segment(folder: Path, rows: int, forms: Counter[tuple[str, int]], pins: list[str], now_s: float) -> SegmentLine:
    footer = readable_footer(folder)
    sealed = (folder / "footer.json").exists()
    problem = problem_of(folder) if sealed else ""
    counts = [count for (name, _), count in forms.items() if name == folder.name]
    return SegmentLine(
        name=folder.name, klass=folder.name.rpartition("-")[0], rows=rows, bytes=data_bytes(folder),
        chunks=sum(counts), coded_chunks=forms[folder.name, CODED], pins=pins, problem=problem,
        age_s=now_s - footer.sealed_s if footer and footer.sealed_s else None,
        state="damaged" if problem else "sealed" if sealed else "written",
    )  # fmt: skip


def _stream(reader: Reader, name: str, spans: dict[str, dict[str, Span]], episodes: list[Episode]) -> StreamLine:
    rows = sum(found[name].rows for found in spans.values() if name in found)
    gap_rows = sum(gap.last - gap.first + 1 for gap in reader.gaps() if gap.stream == name)
    cursor, own = reader.synced(name), [e for e in episodes if e.stream == name]
    return StreamLine(
        name=name, cursor=cursor, first_kept=reader.first_kept(name), rows=rows, gap_rows=gap_rows,
        missing=max(0, cursor + 1 - rows - gap_rows), episodes=len(own), successes=sum(e.success for e in own),
        demonstrations=sum(e.klass == Klass.DEMONSTRATION for e in own),
        interventions=sum(e.interventions for e in own),
    )  # fmt: skip


def _columns(path: Path) -> list[str]:
    folders = [folder for folder in (path / "columns", path.parent / "columns") if folder.is_dir()]
    return sorted({entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()})


def as_tree(found: Survey) -> object:
    """The survey as what JSON knows."""
    return msgspec.to_builtins(found)
