"""Downlink: fetches the newest weight version in parts, and shows it only when it is whole and its hash is right.

A state machine without socket or clock, over a folder: `NNNNNNNN.part/` holds the manifest and what has arrived, and a
transfer that broke, even by the death of this process, goes on at its length. A whole version is synced and renamed to
`NNNNNNNN/`, which control may load from then on. Bytes that do not have the manifest's size and hash are deleted and
fetched again; a version for other rows is refused.
"""

import hashlib
import logging
import shutil
from pathlib import Path

import msgspec

from edge.config import LinkConfig
from user_rl.files import sync_file, sync_folder
from user_rl.versions import Version, read_version, version_folder
from user_rl.wire import Message, Refused, WeightsOffer, WeightsPart, WeightsQuery, WeightsRange

log = logging.getLogger(__name__)

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
AGAIN_S = 1.0  # after something went wrong


class Downlink:
    """The versions of one run, under `root`."""

    def __init__(self, root: Path, run: str, config: LinkConfig, *, schema: str) -> None:
        self._root, self._run, self._config, self._schema = root, run, config, schema
        root.mkdir(parents=True, exist_ok=True)
        self.part_bytes = config.part_bytes  # what is asked for at once: the pace of the link
        self.newest: Version | None = None  # whole, verified, offered by this run's learner
        self._fetching: Version | None = None
        self._offset = 0
        self._asked_s: float | None = None
        self._not_before_s = 0.0
        self._complaint = ""

    @property
    def folder(self) -> Path | None:
        """Where the newest version lies."""
        return None if self.newest is None else version_folder(self._root, self.newest.number)

    def reconnected(self) -> None:
        """Another connection: what was asked is asked again."""
        self._asked_s = None

    def next(self, now_s: float) -> tuple[Message, None] | None:
        """The message to send now; the first query of a life asks for whatever is newest, held or not."""
        if self._asked_s is not None and now_s - self._asked_s >= self._config.answer_s:
            self._asked_s = None
        if self._asked_s is not None or now_s < self._not_before_s:
            return None
        if self._fetching is None:
            return WeightsQuery(run=self._run, have=self.newest.number if self.newest else 0), None
        number, length = self._fetching.number, self.part_bytes
        return WeightsRange(run=self._run, number=number, offset=self._offset, length=length), None

    def sent(self, now_s: float) -> None:
        """What `next` returned is on its way."""
        self._asked_s = now_s

    def receive(self, message: Message, payload: memoryview | None, now_s: float) -> None:
        """An answer; one that was not asked for is dropped."""
        if self._asked_s is None:
            return
        self._asked_s = None
        try:
            if isinstance(message, WeightsOffer) and self._fetching is None:
                self._offer(message.manifest, now_s)
            elif isinstance(message, WeightsPart) and self._fetching is not None and payload is not None:
                self._part(self._fetching, message, payload, now_s)
            elif isinstance(message, Refused):
                self._give_up(f"weights were refused: {message.text}", now_s)
        except OSError as error:
            self._give_up(f"weights cannot be stored: {error}; free space", now_s)

    def _offer(self, manifest: bytes, now_s: float) -> None:
        self._not_before_s = now_s + self._config.weights_every_s
        if not manifest:
            return
        try:
            version = msgspec.json.decode(manifest, type=Version)
        except msgspec.MsgspecError as error:
            return self._give_up(f"a manifest of {len(manifest)} bytes cannot be read: {error}", now_s)
        if version.schema != self._schema:
            return self._give_up(
                f"version {version.number} is for rows of schema {version.schema[:8]}, allowed {self._schema[:8]}, "
                "this cell's; run both sides with one configuration", now_s,
            )  # fmt: skip
        if version.number < 1 or version.size < 1:
            return self._give_up(f"version {version.number} of {version.size} bytes, allowed 1 or more of both", now_s)
        if self._is_here(version):
            return self._adopt(version)
        self._begin(version, manifest)
        return None

    def _is_here(self, version: Version) -> bool:
        folder = version_folder(self._root, version.number)
        try:
            return read_version(folder) == version and _hash(folder / WEIGHTS) == version.sha256
        except (OSError, msgspec.MsgspecError):
            return False

    def _begin(self, version: Version, manifest: bytes) -> None:
        part = self._part_folder(version)
        held = part / MANIFEST
        if not held.is_file() or held.read_bytes() != manifest:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            held.write_bytes(manifest)
        weights = part / WEIGHTS
        self._fetching = version
        self._offset = weights.stat().st_size if weights.is_file() else 0
        self._not_before_s = 0.0
        if self._offset >= version.size:
            self._finish(version, 0.0)

    def _part(self, version: Version, message: WeightsPart, payload: memoryview, now_s: float) -> None:
        end = self._offset + len(payload)
        fits = message.number == version.number and message.offset == self._offset and message.total == version.size
        if not fits or not payload or end > version.size:
            self._fetching = None
            return self._give_up(f"a part of version {message.number} does not fit what was asked", now_s)
        with (self._part_folder(version) / WEIGHTS).open("ab") as file:
            file.write(payload)
        self._offset = end
        return self._finish(version, now_s) if end == version.size else None

    def _finish(self, version: Version, now_s: float) -> None:
        part, folder = self._part_folder(version), version_folder(self._root, version.number)
        self._fetching = None
        if _hash(part / WEIGHTS) != version.sha256 or (part / WEIGHTS).stat().st_size != version.size:
            shutil.rmtree(part)
            return self._give_up(
                f"version {version.number} arrived with another hash than its manifest's {version.sha256[:16]}; "
                "it is deleted and fetched again", now_s,
            )  # fmt: skip
        sync_file(part / WEIGHTS)
        sync_file(part / MANIFEST)
        sync_folder(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        sync_folder(self._root)
        return self._adopt(version)

    def _adopt(self, version: Version) -> None:
        self.newest, self._complaint = version, ""
        whole = sorted(p for p in self._root.iterdir() if p.name.isdigit() and p != self.folder)
        for folder in whole[: max(0, len(whole) + 1 - self._config.keep_versions)]:
            shutil.rmtree(folder, ignore_errors=True)
        for part in self._root.glob("*.part"):
            shutil.rmtree(part, ignore_errors=True)

    def _give_up(self, why: str, now_s: float) -> None:
        self._fetching = None
        self._not_before_s = now_s + AGAIN_S
        if why != self._complaint:
            log.warning("%s", why)
            self._complaint = why

    def _part_folder(self, version: Version) -> Path:
        return self._root / f"{version.number:08d}.part"


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
