"""The run manifest: one atomic file that names all a resume needs, and the checkpoint folder beside it.

`manifest.json` names `checkpoints/NNNNNNNN/algorithm.safetensors` by its hash and holds every counter. The folder is
durable before the manifest names it, and the one before stays until after: a death at any moment leaves a readable run.
State is flat and tensors only, so it is safetensors like the weights: nothing in it can run.
"""

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_from_tensors
from torch import Tensor

from cloud.durable import Disk, put_file, put_folder, remove_temporaries
from cloud.manifest import FOLDER, FORMAT, MANIFEST, STATE, RunManifest, RunState, read_manifest
from user_rl.errors import StorageCorrupt, StorageError

log = logging.getLogger(__name__)


class Checkpoints:
    """Saves and loads a run's state under `run`. One owner; the writing is done by a thread of its own."""

    def __init__(self, run: Path, *, keep: int = 2, disk: Disk | None = None) -> None:
        self._run, self._root, self._keep = run, run / FOLDER, max(1, keep)
        self._disk = Disk() if disk is None else disk
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._root.mkdir(parents=True, exist_ok=True)

    def manifest(self) -> RunManifest | None:
        """The run's manifest, None before the first save; raises StorageCorrupt when it cannot be read."""
        return read_manifest(self._run)

    def load(self) -> tuple[RunState, dict[str, Tensor]] | None:
        """The newest checkpoint, None for a fresh run; raises StorageCorrupt when its bytes are not those saved."""
        manifest = self.manifest()
        if manifest is None:
            return None
        path = self._folder(manifest.checkpoint) / STATE
        data = path.read_bytes() if path.exists() else b""
        if hashlib.sha256(data).hexdigest() != manifest.sha256:
            raise StorageCorrupt(
                f"{path}: {len(data)} bytes, allowed the {manifest.size} that {MANIFEST} names by hash; "
                "restore the run from a copy"
            )
        try:
            return manifest.state, tensors_from_bytes(data)
        except SafetensorError as error:
            raise StorageCorrupt(f"{path} cannot be read: {error}; restore the run from a copy") from error

    def save(self, position: RunState, algorithm: Mapping[str, Tensor]) -> bool:
        """Starts writing `algorithm`, a copy on the host; False when the one before is still being written.

        Raises StorageError or StorageFull when the one before could not be written.
        """
        if self._writing is not None and not self._writing.done():
            return False
        self.wait()
        self._writing = self._writer.submit(self._write, position, dict(algorithm))
        return True

    def wait(self) -> None:
        """Returns when nothing is being written; raises StorageError or StorageFull when that failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for the writer and ends its thread."""
        self._writer.shutdown(wait=True)

    def _write(self, position: RunState, algorithm: dict[str, Tensor]) -> None:
        remove_temporaries(self._disk, self._root)
        data = bytes_from_tensors(algorithm)
        number = max(self._numbers(), default=0) + 1
        put_folder(self._disk, self._folder(number), {STATE: data})
        manifest = RunManifest(
            format=FORMAT, checkpoint=number, sha256=hashlib.sha256(data).hexdigest(), size=len(data), state=position
        )
        put_file(self._disk, self._run / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        self._prune()

    def _prune(self) -> None:
        for number in self._numbers()[: -self._keep]:
            try:
                self._disk.remove(self._folder(number))
            except OSError as error:
                raise StorageError(f"{self._folder(number)}: {error.strerror}; remove it by hand") from error

    def _numbers(self) -> list[int]:
        return sorted(int(p.name) for p in self._root.iterdir() if len(p.name) == 8 and p.name.isdigit())

    def _folder(self, number: int) -> Path:
        return self._root / f"{number:08d}"
