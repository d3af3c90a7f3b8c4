"""Downlink: fetches the newest weight version in parts, and shows it only when it is whole and its hash is right.

A state machine without socket or clock, over a folder: `NNNNNNNN.part/` holds the manifest and what has arrived, and a
transfer that broke, even by the death of this process, goes on at its length. A whole version is synced and renamed to
`NNNNNNNN/`, which may be loaded from then on. Bytes that do not have the manifest's size and hash are deleted and
fetched again. A version for other rows or another action is refused, and so is one that builds on a version which is
not here: then the newest that stands alone (an anchor) is asked for.
"""

import hashlib
import logging
import math
import shutil
from pathlib import Path
from typing import Protocol

import msgspec

from user_rl.files import sync_file, sync_folder
from user_rl.specs import Box
from user_rl.versions import Version, read_version, version_folder
from user_rl.wire import Message, Refused, WeightsOffer, WeightsPart, WeightsQuery, WeightsRange

log = logging.getLogger(__name__)

WEIGHTS, MANIFEST = "weights.safetensors", "manifest.json"
AGAIN_S = 1.0  # after something went wrong


class Bounds(Protocol):
    """Sizes and times of fetching: edge.config.LinkConfig, cloud.inference.config.ServingConfig."""

    @property
    def weights_every_s(self) -> float: ...

    @property
    def part_bytes(self) -> int: ...

    @property
    def keep_versions(self) -> int: ...

    @property
    def answer_s(self) -> float: ...


class Downlink:
    """The versions of one run, under `root`."""

    def __init__(self, root: Path, run: str, config: Bounds, *, schema: str | None, action: Box | None) -> None:
        """`schema`: the digest of the rows that versions must be for, and `action`: of what; None: the run's, any."""
        self._root, self._run, self._config, self._schema, self._action = root, run, config, schema, action
        root.mkdir(parents=True, exist_ok=True)
        self.part_bytes = config.part_bytes  # what is asked for at once: the pace of the link
        self.window_bytes = 0.0  # parts are asked for ahead as far as so much is on its way; 0: one after the other
        self.credit_bytes = math.inf  # and no more of them than this, which whoever paces gives anew
        self.newest: Version | None = None  # whole, verified, offered by this run's learner
        self._fetching: Version | None = None
        self._wants_anchor = False  # what was offered last builds on what is not here
        self._offset = self._reach = 0  # of the file: what is here, what was asked for
        self.came_bytes = 0  # of parts, ever
        self._asked_s: float | None = None
        self._not_before_s = 0.0
        self._complaint = ""

    @property
    def folder(self) -> Path | None:
        """Where the newest version lies."""
        return None if self.newest is None else version_folder(self._root, self.newest.number)

    @property
    def fetching(self) -> bool:
        """Whether a version is on its way."""
        return self._fetching is not None

    @property
    def awaited_bytes(self) -> int:
        """Of parts that were asked for and have not come."""
        return self._reach - self._offset if self._fetching is not None else 0

    def reconnected(self) -> None:
        """Another connection: what was asked is asked again."""
        self._ask_again()

    def next(self, now_s: float) -> tuple[Message, None] | None:
        """The message to send now; the first query of a life asks for whatever is newest, held or not."""
        if self._asked_s is not None and now_s - self._asked_s >= self._config.answer_s:
            self._ask_again()
        if now_s < self._not_before_s or not (self._asked_s is None or self._may_ask_ahead()):
            return None
        if self._fetching is None:
            have = 0 if self.newest is None or self._wants_anchor else self.newest.number
            return WeightsQuery(run=self._run, have=have), None
        number, length = self._fetching.number, self.part_bytes
        return WeightsRange(run=self._run, number=number, offset=self._reach, length=length), None

    def sent(self, now_s: float) -> None:
        """What `next` returned is on its way."""
        self._asked_s = now_s
        if self._fetching is not None:
            self._reach = min(self._reach + self.part_bytes, self._fetching.size)
            self.credit_bytes -= self.part_bytes

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
                self._asked_s = now_s if self._fetching is not None and self._reach > self._offset else None
            elif isinstance(message, Refused):
                self._give_up(f"weights were refused: {message.text}", now_s)
        except OSError as error:
            self._give_up(f"weights cannot be stored: {error}; free space", now_s)

    def _may_ask_ahead(self) -> bool:
        """Whether another part may be asked for while some are on their way."""
        if self._fetching is None or self._reach >= self._fetching.size:
            return False
        room = self.window_bytes - (self._reach - self._offset)
        return self.part_bytes <= min(room, self.credit_bytes)

    def _ask_again(self) -> None:
        self._asked_s, self._reach = None, self._offset

    def _offer(self, manifest: bytes, now_s: float) -> None:
        self._not_before_s = now_s + self._config.weights_every_s
        asked_for_anchor, self._wants_anchor = self._wants_anchor, False
        if not manifest:
            return
        try:
            version = msgspec.json.decode(manifest, type=Version)
        except msgspec.MsgspecError as error:
            return self._give_up(f"a manifest of {len(manifest)} bytes cannot be read: {error}", now_s)
        if why := self._unfit(version):
            return self._give_up(why, now_s)
        if not version.anchor and not self._holds(version.parent):
            self._wants_anchor = not asked_for_anchor
            return self._give_up(
                f"version {version.number} builds on {version.parent}, allowed on one that is here "
                f"({', '.join(map(str, self._whole())) or 'none'}); the newest that stands alone is asked for", now_s,
            )  # fmt: skip
        if asked_for_anchor and self.newest is not None and version.number <= self.newest.number:
            return None
        if self._is_here(version):
            return self._adopt(version)
        self._begin(version, manifest)
        return None

    def _unfit(self, version: Version) -> str:
        """Why this cell can never use the version; empty: it can."""
        name = f"version {version.number}"
        if self._schema is not None and version.schema != self._schema:
            return (
                f"{name} is for rows of schema {version.schema[:8]}, allowed {self._schema[:8]}, this cell's; "
                "run both sides with one configuration"
            )
        if self._action is not None and version.policy.action != self._action:
            found, allowed = _elements(version.policy.action), _elements(self._action)
            return f"{name} acts by {found}, allowed {allowed}, this cell's; run both sides with one configuration"
        if version.number < 1 or version.size < 1:
            return f"{name} of {version.size} bytes, allowed 1 or more of both"
        return ""

    def _whole(self) -> list[int]:
        return sorted(int(path.name) for path in self._root.iterdir() if path.name.isdigit())

    def _holds(self, number: int) -> bool:
        try:
            return self._is_here(read_version(version_folder(self._root, number)))
        except (OSError, msgspec.MsgspecError):
            return False

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
        self._offset = self._reach = weights.stat().st_size if weights.is_file() else 0
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
        self.came_bytes += len(payload)
        self._offset, self._reach = end, max(end, self._reach)
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


def _elements(action: Box) -> str:
    return ", ".join(
        f"{name} {low:g} … {high:g}" for name, low, high in zip(action.names, action.low, action.high, strict=True)
    )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
