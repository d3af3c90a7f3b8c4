"""The weight store: immutable, numbered, hashed versions of the policy, in one folder.

A version is `NNNNNNNN/` with `manifest.json` (user_rl.versions.Version) and `weights.safetensors`. A number is the
highest ever given plus one; the file `counter` remembers it through pruning and through death. One process publishes
at a time, under a lock, any number read. Weights that are not finite are refused, and what is read is checked against
its hash. While a version is held (cloud.weight_hold) it is the one that edges are offered.
"""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from msgspec.structs import replace

from cloud.durable import Disk, put_file, put_folder, remove_temporaries, storage_error
from cloud.weight_hold import read_hold
from user_rl.errors import SpecError, StorageCorrupt, StorageError
from user_rl.files import FileLock
from user_rl.specs import Array
from user_rl.versions import PolicySpec, Version, read_version, version_folder

log = logging.getLogger(__name__)

WEIGHTS, COUNTER, LOCK = "weights.safetensors", "counter", "lock"
LOCK_S = 30.0  # another publisher has so long


def check_finite(tensors: Mapping[str, Array]) -> None:
    """Raises SpecError naming the first tensor that holds a NaN or an infinity."""
    for name, tensor in tensors.items():
        bad = ~np.isfinite(tensor)
        if bad.any():
            raise SpecError(
                f"weights {name}: {int(bad.sum())} of {tensor.size} elements are not finite, allowed none; "
                "nothing was published: lower the learning rate, or look at the rewards and observations"
            )


class WeightStore:
    """Publishes, prunes and reads versions under `root`."""

    def __init__(self, root: Path, *, keep: int = 10, disk: Disk | None = None) -> None:
        self.root, self._keep, self._disk = root, max(1, keep), Disk() if disk is None else disk
        self._pinned: frozenset[int] = frozenset()
        root.mkdir(parents=True, exist_ok=True)

    def pin(self, numbers: Collection[int]) -> None:
        """Keeps these versions whatever their age: those that a run manifest names."""
        self._pinned = frozenset(numbers)

    def publish(
        self, tensors: Mapping[str, Array], policy: PolicySpec, *, schema: str, updates: int, incarnation: str
    ) -> Version:
        """Makes the next version; raises SpecError for weights that are not finite, StorageFull without room."""
        check_finite(tensors)
        data = safetensors.numpy.save({name: np.ascontiguousarray(t) for name, t in tensors.items()})
        version = Version(
            number=1, sha256=hashlib.sha256(data).hexdigest(), size=len(data), schema=schema, policy=policy,
            updates=updates, incarnation=incarnation,
        )  # fmt: skip
        with self.alone():
            return self._add(replace(version, parent=max(self.numbers(), default=0)), data)

    def republish(self, number: int) -> Version:
        """The content of version `number` as the next one, whose parent it is; within `alone`."""
        version, data = self._read(number)
        if not version.anchor:
            raise StorageError(
                f"version {number} is a patch on {version.parent}, allowed one that stands alone; choose another"
            )
        return self._add(replace(version, parent=number), data)

    def put(self, name: str, data: bytes) -> None:
        """Replaces a file beside the versions, durably; within `alone`."""
        put_file(self._disk, self.root / name, data)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else publishes meanwhile; raises StorageBusy naming who does. Not to be nested."""
        try:
            lock = FileLock(self.root / LOCK, wait_s=LOCK_S)
        except OSError as error:
            raise storage_error(self.root / LOCK, 0, error) from error
        try:
            yield
        finally:
            lock.release()

    def _add(self, version: Version, data: bytes) -> Version:
        """The version under the next number."""
        remove_temporaries(self._disk, self.root)
        version = replace(version, number=self.highest() + 1)
        self.put(COUNTER, str(version.number).encode())
        files = {WEIGHTS: data, "manifest.json": msgspec.json.encode(version)}
        put_folder(self._disk, version_folder(self.root, version.number), files)
        self._prune()
        return version

    def numbers(self) -> list[int]:
        """The versions that are there, oldest first."""
        return sorted(int(p.name) for p in self.root.iterdir() if len(p.name) == 8 and p.name.isdigit())

    def highest(self) -> int:
        """The highest number ever given, 0 if none."""
        counter = self.root / COUNTER
        counted = int(counter.read_bytes()) if counter.exists() else 0
        return max([counted, *self.numbers()])

    def newest(self) -> Version | None:
        """The manifest of the newest version, None before the first."""
        numbers = self.numbers()
        return self.manifest(numbers[-1]) if numbers else None

    def offered(self, *, anchor: bool = False) -> Version | None:
        """What edges may use: the version that is held, else the newest, with `anchor` the newest whole one.

        Raises StorageError if the held one is gone.
        """
        hold = read_hold(self.root)
        if hold is not None:
            return self.manifest(hold.number)
        versions = map(self.manifest, reversed(self.numbers()))
        return next((v for v in versions if v.anchor or not anchor), None)

    def manifest(self, number: int) -> Version:
        """The manifest of version `number`; raises StorageError if it is not there, StorageCorrupt if unreadable."""
        try:
            return read_version(version_folder(self.root, number))
        except OSError as error:
            raise self._missing(number) from error
        except msgspec.MsgspecError as error:
            folder = version_folder(self.root, number)
            raise StorageCorrupt(f"{folder}/manifest.json cannot be read: {error}; remove the folder") from error

    def load(self, number: int) -> tuple[Version, dict[str, Array]]:
        """Version `number` and its tensors; raises StorageCorrupt when the bytes are not those published."""
        version, data = self._read(number)
        return version, safetensors.numpy.load(data)

    def _read(self, number: int) -> tuple[Version, bytes]:
        version = self.manifest(number)
        data = (version_folder(self.root, number) / WEIGHTS).read_bytes()
        if hashlib.sha256(data).hexdigest() != version.sha256:
            raise StorageCorrupt(
                f"{version_folder(self.root, number)}/{WEIGHTS}: the hash of its {len(data)} bytes is not the "
                f"manifest's {version.sha256[:16]}; remove the folder, the version before it is whole"
            )
        return version, data

    def read(self, number: int, offset: int, length: int) -> tuple[bytes, int]:
        """A part of the weights file and the file's whole size; raises StorageError outside of its bounds."""
        try:
            fd = os.open(version_folder(self.root, number) / WEIGHTS, os.O_RDONLY)
        except OSError as error:
            raise self._missing(number) from error
        try:
            total = os.fstat(fd).st_size
            if not (0 <= offset <= total and length > 0):
                raise StorageError(
                    f"version {number}: {length} bytes at {offset}, allowed within its {total}; ask anew"
                )
            return os.pread(fd, min(length, total - offset), offset), total
        finally:
            os.close(fd)

    def _missing(self, number: int) -> StorageError:
        there = self.numbers()
        kept = f"{there[0]} to {there[-1]}" if there else "none yet"
        return StorageError(f"version {number} is not in {self.root}, allowed {kept}; ask for the newest")

    def _prune(self) -> None:
        try:
            hold = read_hold(self.root)
        except StorageCorrupt as error:
            log.warning("%s; no version is dropped meanwhile", error)
            return
        kept = self._pinned | ({hold.number} if hold is not None else set())
        for number in self.numbers()[: -self._keep]:
            if number not in kept:
                try:
                    self._disk.remove(version_folder(self.root, number))
                except OSError as error:
                    log.warning("%s", storage_error(version_folder(self.root, number), 0, error))
