"""A log that grows by a whole import or not at all, whatever dies in between.

The rows go into a hidden folder beside the target: a new log, or a copy of the one that is there (sealed segments are
linked, not copied). Only when all is durable does it take the target's place, in one rename; where a log is there
already the two change places at once (renameat2, RENAME_EXCHANGE). What a killed import left is removed by the next.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from user_rl.errors import StorageBusy, StorageError
from user_rl.files import FileLock, exchange, sync_folder
from user_rl.log import Log

SEALED = "footer.json"  # a segment's folder that has one is read-only


@dataclass
class Landing:
    """The log to append to, and whether it is to take the target's place in the end."""

    log: Log
    is_wanted: bool = True


@contextmanager
def landing(target: Path) -> Iterator[Landing]:
    """`target` has the log's rows when the block ends well and wants it, and is untouched when it does not.

    Raises StorageBusy naming the process that writes into `target` now.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = target.with_name(f".{target.name}.import-{os.getpid()}")
    with ExitStack() as on_exit:
        is_there = (target / "log.json").is_file()
        if is_there:
            on_exit.callback(FileLock(target / "lock").release)
            _sweep(target)
            clone_log(target, stage)
        elif target.is_dir() and any(target.iterdir()):
            raise StorageError(f"{target}: is a folder without a log, allowed a log or a new name; choose another")
        else:
            _sweep(target)
        on_exit.callback(shutil.rmtree, stage, ignore_errors=True)
        with Log(stage) as log:
            landed = Landing(log)
            yield landed
            log.commit()
        if not landed.is_wanted:
            return
        if is_there:
            exchange(stage, target)
        else:
            os.rename(stage, target)
        sync_folder(target.parent)


def clone_log(source: Path, copy: Path) -> None:
    """A log with the same identity and rows; what is sealed shares its files. Nobody may write meanwhile."""
    copy.mkdir()
    for path in sorted(source.rglob("*")):
        to = copy / path.relative_to(source)
        if path.is_dir():
            to.mkdir()
        elif path.parent != source and (path.parent / SEALED).is_file() and path.name != "lock.mdb":
            os.link(path, to)
        elif path.name not in ("lock", "lock.mdb"):
            shutil.copy2(path, to)
            with to.open("rb") as file:
                os.fsync(file.fileno())
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        sync_folder(folder)


def _sweep(target: Path) -> None:
    """Removes what killed imports left; the lock of one that lives is held."""
    for left in target.parent.glob(f".{target.name}.import-*"):
        try:
            lock = FileLock(left / "lock")
        except StorageBusy:
            continue
        shutil.rmtree(left, ignore_errors=True)
        lock.release()
