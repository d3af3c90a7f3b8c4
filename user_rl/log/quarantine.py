"""Quarantine: damaged segments are found cheaply, set aside with their reason, and the rest of the log serves.

`problem_of` never maps a file: a map whose file is too short kills its process (SIGBUS). It holds a sealed segment
against its footer by size, and the two meta pages of LMDB against what LMDB expects; flipped bits elsewhere are found
by the file's hash (user_rl.log.verify). A segment in quarantine lies in `quarantine/<name>/` with a `reason.json`; its
rows count as missing, its streams' cursors stay, so that nobody sends those rows again. (Asking an edge that still has
them is not built.) To bring it back: put a sound copy of the folder under the log while no writer has it.
"""

import os
from pathlib import Path
from struct import Struct

import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.files import sync_folder, write_atomically
from user_rl.log.durable import translated
from user_rl.log.segment import Footer, Segment, is_segment_name
from user_rl.log.verify import data_bytes, walk_in_child
from user_rl.rows import Klass

FOLDER, REASON = "quarantine", "reason.json"
_META = Struct("<16x II Q Q I 44x 48x QQ")  # page header; magic, version, address, map size, page size; last page, txn
MAGIC, VERSIONS = 0xBEEFC0DE, (1,)
ENTRY_BYTES = 16  # a chunk takes more of its file, in the order table alone
PAGES = (4096, 8192, 16384, 32768, 65536)


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """`reason.json`: why a segment was set aside, and what left with it as far as its footer says."""

    segment: str
    problems: list[str]
    at_s: float  # wall clock
    rows: int | None = None
    streams: dict[str, tuple[int, int]] = {}  # name, or "number N": first and last step


def problem_of(folder: Path) -> str:
    """What is wrong with a segment as far as a look that cannot fail says; empty: nothing."""
    try:
        return _problem_of(folder)
    except StorageCorrupt as error:
        return str(error)
    except FileNotFoundError:  # it was dropped meanwhile
        return ""


def _problem_of(folder: Path) -> str:
    footer = Segment(folder).footer
    file = folder / "data.mdb"
    if not file.is_file():
        return f"{file}: is missing" if folder.is_dir() else ""
    return (_footer_problem(folder, footer) if footer else "") or _page_problem(file, footer)


def _footer_problem(folder: Path, footer: Footer) -> str:
    klass, _, first_seq = folder.name.rpartition("-")
    size = (folder / "data.mdb").stat().st_size
    if size != footer.bytes:
        return f"{folder}/data.mdb: {size} bytes, sealed were {footer.bytes}"
    said = (footer.klass, footer.first_seq, footer.rows)
    expected = (int(Klass[klass.upper()]), int(first_seq), sum(span.rows for span in footer.spans.values()))
    return "" if said == expected else f"{folder}/footer.json: class, number and rows {said}, expected {expected}"


def _page_problem(file: Path, footer: Footer | None) -> str:
    """The meta pages: whether this is an environment, and without a footer whether the file has the pages it needs.

    The last pages may never have been written though they were counted: this alone is no proof.
    """
    with file.open("rb") as data:
        first = data.read(_META.size)
        page = _META.unpack(first)[4] if len(first) == _META.size else 0
        if page not in PAGES:
            return f"{file}: its first page is not one of LMDB"
        data.seek(page)
        second = data.read(_META.size)
    metas = [_META.unpack(meta) for meta in (first, second) if len(meta) == _META.size]
    if len(metas) < 2 or any(meta[0] != MAGIC or (meta[1] & 0xFFFF) not in VERSIONS for meta in metas):
        return f"{file}: its meta pages are not those of LMDB"
    pages, size = 1 + int(max(metas, key=lambda meta: int(meta[6]))[5]), file.stat().st_size  # later than the metas
    return f"{file}: {size} bytes, its {pages} pages need more" if footer is None and pages * page > size else ""


def set_aside(path: Path, reason: Reason) -> Path:
    """Moves a segment of the log at `path` into quarantine, durably; returns where it lies now.

    A death in between leaves it where it was, or there.
    """
    folder, number = path / FOLDER / reason.segment, 1
    while folder.exists():
        folder, number = path / FOLDER / f"{reason.segment}.{number}", number + 1
    with translated(path, 4096):
        write_atomically(path / reason.segment / REASON, msgspec.json.format(msgspec.json.encode(reason)))
        folder.parent.mkdir(exist_ok=True)
        sync_folder(path)
        os.rename(path / reason.segment, folder)
        sync_folder(folder.parent)
        sync_folder(path)
    return folder


def set_aside_before(path: Path) -> list[Reason]:
    """What lies in quarantine, oldest first."""
    found = []
    for file in (path / FOLDER).glob(f"*/{REASON}"):
        try:
            found.append(msgspec.json.decode(file.read_bytes(), type=Reason))
        except (OSError, msgspec.MsgspecError) as error:
            found.append(Reason(segment=file.parent.name, problems=[f"{file} cannot be read: {error}"], at_s=0.0))
    return sorted(found, key=lambda reason: (reason.at_s, reason.segment))


def damaged(path: Path) -> dict[str, str]:
    """The sealed segments of a log that a cheap look finds damaged, and what is wrong with each.

    Raises StorageCorrupt for one that was still written and cannot be opened: it has the newest rows.
    """
    found = {}
    for folder in sorted(entry for entry in path.iterdir() if is_segment_name(entry.name)):
        if problem := problem_of(folder):
            if not (folder / "footer.json").exists():
                _check_unsealed(folder, problem)
            else:
                found[folder.name] = problem
    return found


def _check_unsealed(folder: Path, problem: str) -> None:
    """Lets a child try, which may die of it."""
    if walk_in_child(folder):
        raise StorageCorrupt(
            f"{problem}; it was still written and has the newest rows: restore the run from its backup, or give them "
            f"up with user-rl buffer verify {folder.parent} --quarantine --unsealed"
        )


def readable_footer(folder: Path) -> Footer | None:
    """A segment's footer, None where there is none that can be read."""
    try:
        return Segment(folder).footer
    except StorageCorrupt:
        return None


def highest_seq(folder: Path) -> int:
    """No commit of a damaged sealed segment has a higher number; a bound from its size where the footer is lost."""
    footer = readable_footer(folder)
    return footer.last_seq if footer else int(folder.name.rpartition("-")[2]) + data_bytes(folder) // ENTRY_BYTES
