"""Fakes of the cloud, as products: a disk that can lose its power after any operation."""

from collections.abc import Iterator
from pathlib import Path

from cloud.durable import Disk


class _Folder:
    """A folder's names as processes see them, and as they are on the platter: all that is there at the beginning."""

    def __init__(self, path: Path | None = None) -> None:
        there = path.iterdir() if path is not None else ()
        self.seen: dict[str, bytes | _Folder] = {p.name: _Folder(p) if p.is_dir() else p.read_bytes() for p in there}
        self.durable = dict(self.seen)


class RecordingDisk(Disk):
    """A real disk that keeps what every operation under `root` would leave behind if the power failed.

    After each operation, and in the middle of each write, there are two worlds: all names that processes saw, and only
    those whose folder was synced since. What comes back really lies in between; both ends must be readable.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._tree = root, _Folder(root)
        self._worlds: list[dict[str, bytes | None]] = []

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._parent(path).seen.setdefault(path.name, _Folder())
        self._keep()

    def write(self, path: Path, data: bytes) -> None:
        for part in (data[: len(data) // 2], data):
            self._parent(path).seen[path.name] = part
            self._keep()
        super().write(path, data)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._parent(target).seen[target.name] = self._parent(source).seen.pop(source.name)
        self._keep()

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        folder = self._folder(path)
        folder.durable = dict(folder.seen)
        self._keep()

    def remove(self, path: Path) -> None:
        super().remove(path)
        found = self._parent(path).seen.get(path.name)
        if isinstance(found, _Folder):
            for name in list(found.seen):  # one name at a time, as rmtree does
                del found.seen[name]
                self._keep()
        self._parent(path).seen.pop(path.name, None)
        self._keep()

    @property
    def worlds(self) -> int:
        """How many there are."""
        return len(self._worlds)

    def restore(self, number: int, target: Path) -> None:
        """Builds world `number` in the new folder `target`."""
        target.mkdir()
        for name, data in self._worlds[number].items():
            path = target / name
            if data is None:
                path.mkdir()
            else:
                path.write_bytes(data)

    def _keep(self) -> None:
        for durable in (False, True):
            self._worlds.append(dict(_flat(self._tree, "", durable=durable)))

    def _parent(self, path: Path) -> _Folder:
        return self._folder(path.parent)

    def _folder(self, path: Path) -> _Folder:
        folder = self._tree
        for name in path.relative_to(self._root).parts:
            found = folder.seen[name]
            assert isinstance(found, _Folder)
            folder = found
        return folder


def _flat(folder: _Folder, prefix: str, *, durable: bool) -> Iterator[tuple[str, bytes | None]]:
    for name, found in (folder.durable if durable else folder.seen).items():
        if isinstance(found, _Folder):
            yield f"{prefix}{name}", None
            yield from _flat(found, f"{prefix}{name}/", durable=durable)
        else:
            yield f"{prefix}{name}", found
