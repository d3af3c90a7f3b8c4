"""Fakes of the cloud, as products: a disk whose power can fail after any operation, a log in memory, and its rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cloud.durable import Disk
from user_rl.log.chunk import ChunkRef
from user_rl.rows import Kind, Klass, Schema, make_schema
from user_rl.specs import Array, Image, box


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


class MemoryLog:
    """See cloud.store.source.Source; its chunks are in memory, and it is its own Hold."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.chunks: list[tuple[str, Array]] = []

    def add(self, stream: str, records: Array) -> None:
        """Commits rows as one chunk."""
        self.chunks.append((stream, records.copy()))

    def close(self) -> None:
        """It may be read again after."""

    def streams(self) -> dict[str, Schema]:
        return {stream: self._schema for stream, _ in self.chunks}

    def refs(self, after_seq: int, max_chunks: int) -> list[ChunkRef]:
        found = self.chunks[after_seq : after_seq + max_chunks]
        return [
            ChunkRef(seq=seq, stream=stream, number=0, first=int(rows["step"][0]), count=len(rows), segment="", form=0)
            for seq, (stream, rows) in enumerate(found, after_seq + 1)
        ]

    def first_online(self) -> int:
        return 1

    def hold(self) -> "MemoryLog":
        return self

    def __enter__(self) -> "MemoryLog":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        return self.chunks[ref.seq - 1][1]

    def where(self, ref: ChunkRef) -> None:
        return None

    def fetch(self, ref: ChunkRef, rows: Array, out: Array) -> None:
        out[:] = self.plain(ref)[rows]


def state_schema(states: int = 3, actions: int = 2) -> Schema:
    """Rows of a cell that measures `states` numbers and takes `actions`, each within ±1."""
    state = box("observation.state", [(f"s{i}", "", -np.inf, np.inf) for i in range(states)])
    return make_schema({state.name: state}, box("action", [(f"a{i}", "", -1.0, 1.0) for i in range(actions)]))


def episode_rows(
    schema: Schema, rng: np.random.Generator, *, length: int, first_step: int = 0, number: int = 0,
    klass: Klass = Klass.ONLINE, success: bool = True, interventions: Sequence[int] = (),
) -> Array:  # fmt: skip
    """A whole episode of `length` steps and its LAST row, with random observations and actions."""
    rows = schema.new(length + 1)
    rows["step"] = np.arange(first_step, first_step + length + 1)
    rows["episode"], rows["frame_index"] = number, np.arange(length + 1)
    rows["run"], rows["token"], rows["version"], rows["klass"] = b"run", 1, 1, klass
    for name, spec in schema.observation.items():
        picture = isinstance(spec, Image)
        rows[name] = rng.integers(0, 256, rows[name].shape) if picture else rng.standard_normal(rows[name].shape)
    rows["action"] = rng.uniform(-1.0, 1.0, rows["action"].shape)
    rows["kind"][-1] = Kind.LAST
    rows["action"][-1] = 0
    rows["is_intervention"][list(interventions)] = 1
    for name in ("next.reward", "next.done", "next.success"):
        rows[name][-2] = success
    rows["next.truncated"][-2] = not success
    return rows
