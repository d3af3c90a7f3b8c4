"""The system calls of a child, recorded with strace, and every disk that a loss of power after any of them can leave.

LMDB writes through C, so what it does is recorded below it. A file's write is durable once an fsync or fdatasync of
that file has returned, or at once through a descriptor with O_DSYNC; until then any of its 4 KiB pages may have
reached the disk or not. A name is durable once its folder was synced; until then any number of the folder's changes,
in their order, may be.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PAGE = 4096
CALLS = (
    "openat,close,dup,dup2,dup3,lseek,write,writev,pwrite64,pwritev,fsync,fdatasync,msync,sync_file_range,fallocate,"
    "ftruncate,truncate,rename,renameat,renameat2,link,linkat,symlink,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "copy_file_range,sendfile"
)
LINE = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(eq=False)
class File:
    """What is on the platter, and the pages on their way: (offset, bytes), or a new length as (length, None)."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)


@dataclass(eq=False)
class Folder:
    """Names on the platter, and the changes on their way: (name, what it is from now on)."""

    durable: dict[str, "File | Folder"] = field(default_factory=dict)
    pending: list[dict[str, "File | Folder | None"]] = field(default_factory=list)

    def seen(self, count: int | None = None) -> dict[str, "File | Folder"]:
        names: dict[str, File | Folder | None] = dict(self.durable)
        for change in self.pending[:count]:
            names |= change
        return {name: found for name, found in names.items() if found is not None}


@dataclass
class _Open:
    file: File
    at: int = 0
    synced: bool = False  # O_DSYNC


def record(command: Sequence[str], trace: Path, cwd: Path) -> None:
    """Runs the command to its end under strace, which sees its first thread alone: it is to do everything."""
    strace = ["strace", "-qq", "-xx", "-s", str(2**22), "-e", f"trace={CALLS}", "-o", str(trace)]
    subprocess.run([*strace, *command], check=True, cwd=cwd, timeout=120)


class Machine:
    """The disk below `root` while the recorded calls happen."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Folder()
        self.said: list[bytes] = []  # what was written to stdout so far
        self._open: dict[int, _Open] = {}
        self._folders: dict[int, Folder] = {}

    def play(self, trace: Path) -> Iterator[str]:
        """Makes the calls happen one by one; yields the name of each that changed the disk or was said."""
        for line in trace.read_text().splitlines():
            match = LINE.match(line)
            if match and int(match[3]) >= 0:
                name, text, result = match[1], match[2], int(match[3])
                strings = [bytes.fromhex(found.replace("\\x", "")) for found in TEXT.findall(text)]
                first = re.match(r"(\d+)", text)
                if self._call(name, text, strings, int(first[1]) if first else -1, result):
                    yield name

    def _call(self, name: str, text: str, strings: list[bytes], fd: int, result: int) -> bool:
        if name in ("openat", "rename", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"):
            return self._name(name, text, [self._place(fd, os.fsdecode(s)) for s in strings], result)
        if name == "write" and fd == 1:
            self.said.append(strings[0])
            return True
        if name in ("fsync", "fdatasync"):
            return self._sync(fd)
        if name == "close":
            self._open.pop(fd, None)
            self._folders.pop(fd, None)
            return False
        if fd not in self._open:
            return False
        return self._write(name, text, strings, self._open[fd], result)

    def _write(self, name: str, text: str, strings: list[bytes], to: _Open, result: int) -> bool:
        numbers = re.findall(r", (\d+)", text)
        if name == "lseek":
            to.at = result
            return False
        if name in ("ftruncate", "fallocate"):
            assert name == "ftruncate", "a call that the model lacks"
            to.file.pending.append((int(numbers[-1]), None))
            return True
        assert name in ("write", "writev", "pwrite64", "pwritev"), f"the model lacks {name}"
        at = to.at if name.startswith("write") else int(numbers[-1])
        data = b"".join(strings)[:result]
        if name.startswith("write"):
            to.at += result
        pages = [(p, data[max(p - at, 0) : p - at + PAGE]) for p in range(at - at % PAGE, at + len(data), PAGE)]
        parts: list[tuple[int, bytes | None]] = [(max(p, at), part) for p, part in pages]
        for part in parts if to.synced else ():
            put(to.file.durable, *part)
        to.file.pending.extend([] if to.synced else parts)
        return True

    def _sync(self, fd: int) -> bool:
        if fd in self._folders:
            folder = self._folders[fd]
            folder.durable, folder.pending = folder.seen(), []
        elif fd in self._open:
            file = self._open[fd].file
            for part in file.pending:
                put(file.durable, *part)
            file.pending.clear()
        else:
            return False
        return True

    def _name(self, name: str, text: str, places: list[tuple[Folder, str] | None], result: int) -> bool:
        if None in places:
            return False
        (folder, last), *others = [place for place in places if place]
        if name == "openat":
            return self._opened(folder, last, text, result)
        if name == "rename":
            assert others[0][0] is folder, "renames stay in their folder"
            folder.pending.append({others[0][1]: folder.seen()[last], last: None})
        else:
            folder.pending.append({last: Folder() if name.startswith("mkdir") else None})
        return True

    def _place(self, fd: int, path: str) -> tuple[Folder, str] | None:
        """The folder that a path's last part is in; None: not on this disk."""
        if not path.startswith("/"):
            return (self._folders[fd], path) if fd in self._folders else None
        if not Path(path).is_relative_to(self.root):
            return None
        folder, (*parts, last) = self.top, ("", *Path(path).relative_to(self.root).parts)
        for part in parts[1:]:
            found = folder.seen()[part]
            assert isinstance(found, Folder)
            folder = found
        return folder, last

    def _opened(self, folder: Folder, name: str, text: str, fd: int) -> bool:
        found, new = (folder.seen().get(name) if name else folder), False
        if isinstance(found, Folder):
            self._folders[fd] = found
            return False
        if found is None:
            assert "O_CREAT" in text or "O_TMPFILE" in text, text[:200]
            found, new = File(), True
            folder.pending.append({name: found})
        if "O_TRUNC" in text and not new:
            found.pending.append((0, None))
        self._open[fd] = _Open(found, synced="SYNC" in text)
        return new


def put(data: bytearray, at: int, part: bytes | None) -> None:
    """One write, or one change of length."""
    if part is None:
        data[:] = data[:at].ljust(at, b"\0")
    else:
        data.extend(bytes(max(0, at - len(data))))
        data[at : at + len(part)] = part


def build(folder: Folder, target: Path, share: float, rng: np.random.Generator | None) -> None:
    """What the power's loss leaves: all that is pending (share 1), nothing of it (0), or any part, as `rng` draws."""
    target.mkdir()
    count = round(share * len(folder.pending)) if rng is None else int(rng.integers(len(folder.pending) + 1))
    for name, found in folder.seen(count).items():
        if isinstance(found, Folder):
            build(found, target / name, share, rng)
            continue
        data = bytearray(found.durable)
        for part in found.pending:
            if rng.random() < share if rng is not None else share:
                put(data, *part)
        (target / name).write_bytes(data)


def has_strace() -> bool:
    """Whether there is a strace that may trace here."""
    return (
        bool(shutil.which("strace"))
        and not subprocess.run(
            ["strace", "-qq", "-o", os.devnull, sys.executable, "-c", ""], capture_output=True, check=False
        ).returncode
    )
