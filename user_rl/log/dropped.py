"""Dropped: the footers of segments that retention dropped, `dropped/<segment>.json`: what was given up is told from
what is lost.

A footer is linked there before its segment leaves, which takes no space; one whose segment is still there counts as
nothing. Where not even a link can be made the segment leaves without: making room comes first.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.files import sync_folder
from user_rl.log.chunk import Span
from user_rl.log.segment import Footer

log = logging.getLogger(__name__)
FOLDER = "dropped"


def prepare(path: Path) -> None:
    """Makes the folder while the disk has room for it."""
    if not (path / FOLDER).is_dir():
        (path / FOLDER).mkdir()
        sync_folder(path)


def keep_footer(segment: Path) -> None:
    """Keeps the footer of a segment that is about to be dropped."""
    folder = segment.parent / FOLDER
    try:
        with suppress(FileExistsError):
            os.link(segment / "footer.json", folder / f"{segment.name}.json")
        sync_folder(folder)
    except OSError as error:
        log.warning("%s: its footer is not kept: %s; a comparison will call its rows lost", segment, error)


def dropped_files(path: Path) -> list[Path]:
    """The footers of segments that are gone, by name."""
    return [file for file in sorted((path / FOLDER).glob("*-*.json")) if not (path / file.stem).exists()]


def dropped_spans(path: Path) -> dict[int, list[Span]]:
    """What the segments that were dropped had, by stream number; raises StorageCorrupt for a footer that is damaged."""
    found = dict[int, list[Span]]()
    for file in dropped_files(path):
        try:
            footer = msgspec.json.decode(file.read_bytes(), type=Footer)
        except msgspec.MsgspecError as error:
            raise StorageCorrupt(f"{file} cannot be read: {error}; restore it from a backup") from error
        for number, span in footer.spans.items():
            found.setdefault(number, []).append(span)
    return found
