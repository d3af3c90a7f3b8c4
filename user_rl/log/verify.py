"""Are the bytes of a log what was written? Sealed files against their footers, every chunk against its digest."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.log.lock import read_identity
from user_rl.log.segment import Segment, hash_file, is_segment_name
from user_rl.log.walk import Walk

WALK_S = 600.0  # for one segment
BATCH = 8  # segments for one child
LONGEST_S = 86_400.0  # for all; poll() itself takes no more than 2**31 ms


@dataclass(frozen=True)
class Findings:
    """What is wrong with a log: by segment, and what is wrong with no single one."""

    segments: dict[str, list[str]] = field(default_factory=dict)  # only those with problems
    others: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """One line each; empty: nothing."""
        return [line for lines in self.segments.values() for line in lines] + self.others


def verify(path: Path) -> list[str]:
    """The problems of a log, one line each; empty: none. May run beside the log's writer.

    Segments are walked in child processes: damage inside LMDB's tree can kill a reader. Raises StorageError if there
    is no log.
    """
    return examine(path).lines()


def examine(path: Path, tell: Callable[[int], None] = lambda _: None) -> Findings:
    """As `verify`, by segment; `tell` hears of the bytes that were dealt with, in all those of the data files."""
    read_identity(path)
    folders = sorted(entry for entry in path.iterdir() if is_segment_name(entry.name))
    segments, runs = dict[str, list[str]](), dict[str, list[tuple[int, int]]]()
    for start in range(0, len(folders), BATCH):
        some = folders[start : start + BATCH]
        for folder, found in zip(some, _walked(some), strict=True):
            problems = check_file(folder) + found.problems
            if problems and folder.is_dir():  # else it was trimmed meanwhile
                segments[folder.name] = problems
            for stream, parts in found.runs.items():
                runs.setdefault(stream, []).extend(parts)
            tell(data_bytes(folder))
    return Findings(segments, [line for stream, parts in sorted(runs.items()) for line in _twice(stream, parts)])


def data_bytes(folder: Path) -> int:
    """The size of a segment's data file, 0 where it is missing."""
    file = folder / "data.mdb"
    try:
        return file.stat().st_size
    except FileNotFoundError:  # dropped, or never written
        return 0


def walk_in_child(folder: Path) -> list[str]:
    """What a walk over one segment finds, or dies of."""
    return [line for found in _walked([folder]) for line in found.problems]


def check_file(folder: Path) -> list[str]:
    """The data file against the footer, by plain reads."""
    try:
        footer = Segment(folder).footer
    except StorageCorrupt:
        return []  # the walk says so
    if footer is None:
        return []
    try:
        size, digest = hash_file(folder / "data.mdb")
    except FileNotFoundError:
        return [f"{folder}/data.mdb: is missing; restore this segment"] if folder.is_dir() else []
    if (size, digest) == (footer.bytes, footer.xxh3_128):
        return []
    return [
        f"{folder}/data.mdb: {size} bytes with hash {digest}, sealed were {footer.bytes} with {footer.xxh3_128}; "
        "restore this segment"
    ]


def _walked(folders: list[Path]) -> list[Walk]:
    """Walks all in one child; if that dies, each in its own, to name the one that killed it."""
    command = [sys.executable, "-c", "from user_rl.log.walk import main; main()", *map(str, folders)]
    timeout_s = min(WALK_S * max(1, len(folders)), LONGEST_S)
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        reason = f"takes longer than {timeout_s:.0f} s"
    else:
        if done.returncode == 0:
            return msgspec.json.decode(done.stdout, type=list[Walk])
        reason = f"ended with {done.returncode} {done.stderr.decode(errors='replace').strip().rpartition(chr(10))[2]}"
    if len(folders) > 1:
        return [walk for folder in folders for walk in _walked([folder])]
    return [Walk([f"{folders[0]}: its walk {reason}; restore this segment"], {})]


def _twice(stream: str, runs: list[tuple[int, int]]) -> list[str]:
    """Rows that more than one chunk has, which no reader would show."""
    lines, end = [], -1
    for first, last in sorted(runs):
        if first <= end:
            lines.append(f"stream {stream}: rows {first}..{min(end, last)} stand twice; restore this log")
        end = max(end, last)
    return lines
