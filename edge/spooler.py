"""Spooler: from the ring to the disk. A row leaves the ring only after the fsync that made it durable.

A killed link's successor finds the rows in the ring again; those that were committed already are skipped by their step.
When the disk is full, or the spool has reached its bound and nothing of it is acknowledged, the ring is no longer
drained: the robot then holds still. Nothing is dropped, and what waits is tried again every second. Before that camera
pictures are left out (`edge.room`): such a row has zeros for them and NaN for their stamps, stored in no bytes.
"""

import hashlib
import logging

from edge.config import EdgeConfig
from edge.ring import Ring
from edge.room import Room
from user_rl.clock import Clock
from user_rl.errors import StorageFull
from user_rl.log import Log
from user_rl.log.unfilmed import unfilmed
from user_rl.specs import Array

log = logging.getLogger(__name__)

RETRY_S = 1.0
TRIM_S = 1.0  # between two looks at the spool's size


def boot_of(root: bytes, generation: int) -> str:
    """The boot of a daemon's n-th stream: its own random bits for the first, bits drawn from them for later runs."""
    if generation == 0:
        return root.hex()
    return hashlib.blake2b(root + generation.to_bytes(8, "little"), digest_size=16).hexdigest()


def stream_name(cell: str, boot: str, run: str) -> str:
    """What the log and the wire call a stream."""
    return f"{cell}/{boot}/{run}"


class Spooler:
    """The ring's only reader and the spool's only writer."""

    def __init__(self, ring: Ring, spool: Log, config: EdgeConfig, boot: bytes, clock: Clock) -> None:
        self._ring, self._spool, self._config, self._boot, self._clock = ring, spool, config, boot, clock
        self._position = ring.tail  # everything before it was appended
        self.gather_s = 0.0  # how long rows may wait in the ring for others
        self._seen_s: float | None = None  # when the oldest of them was seen there
        self._bytes = 0  # appended and not committed
        self._since_s = 0.0  # when the oldest of them was appended
        self._blocked_until_s = self._looked_s = float("-inf")
        self._blocked = ""
        self._room = Room(spool, config.link.room, pictures=bool(ring.schema.pictures))

    @property
    def idle(self) -> bool:
        """Whether everything published is on disk."""
        return self._ring.tail == self._ring.head

    @property
    def blocked(self) -> str:
        """Why the ring is not drained, empty when it is."""
        return self._blocked

    @property
    def reason(self) -> str:
        """Why not everything is recorded, empty when it is."""
        return self._blocked or self._room.reason

    def turn(self, acknowledged: dict[str, int], *, at_once: bool = False) -> bool:
        """Appends what is new and commits what is due; True when rows became durable."""
        now_s = self._clock.now_s()
        if now_s < self._blocked_until_s:
            return False
        try:
            self._make_room(acknowledged, now_s)
            if at_once or self._gathered(now_s):
                self._drain(now_s)
            due = at_once or now_s - self._since_s >= self._config.link.commit_ms / 1e3
            return bool(self._bytes) and (due or self._bytes >= self._config.link.commit_bytes) and self._commit()
        except StorageFull as error:
            self._block(str(error), now_s)
            return False

    def _gathered(self, now_s: float) -> bool:
        """Whether what is in the ring has waited long enough, or is much."""
        rows = self._ring.head - self._position
        if rows <= 0:
            self._seen_s = None
            return False
        self._seen_s = now_s if self._seen_s is None else self._seen_s
        much = rows * self._ring.schema.row_bytes >= self._config.link.commit_bytes
        if not much and now_s - self._seen_s < self.gather_s:
            return False
        self._seen_s = None
        return True

    def _drain(self, now_s: float) -> None:
        row_bytes = self._ring.schema.row_bytes
        while self._bytes < self._config.link.commit_bytes:
            most = max(1, (self._config.link.commit_bytes - self._bytes) // row_bytes)
            batch = self._ring.read(self._position, most)
            if batch is None:
                return
            if not self._bytes:
                self._since_s = now_s
            run = bytes(batch.rows["run"][0]).decode()
            stream = stream_name(self._config.name, boot_of(self._boot, batch.generation), run)
            synced = self._spool.open_stream(stream, self._ring.schema)
            rows = batch.rows[batch.rows["step"].astype("i8") > synced]
            if len(rows):
                self._append(stream, rows)
            self._position = batch.end
            self._bytes += batch.rows.nbytes

    def _append(self, stream: str, rows: Array) -> None:
        if self._room.frames:
            return self._spool.append(stream, rows)
        return unfilmed(rows, self._ring.schema, self._config.link.codecs).append_to(self._spool, stream)

    def _commit(self) -> bool:
        self._spool.commit()
        self._ring.release(self._position)
        self._bytes = 0
        if self._blocked:
            log.info("the spool has space again; the robot goes on")
            self._blocked = ""
        return True

    def _make_room(self, acknowledged: dict[str, int], now_s: float) -> None:
        """Drops acknowledged segments when space is needed, and sees what may still be recorded."""
        if now_s - self._looked_s >= TRIM_S or self._blocked:
            self._looked_s = now_s
            self._room.look(acknowledged)

    def _block(self, why: str, now_s: float) -> None:
        self._blocked_until_s = now_s + RETRY_S
        if not self._blocked:
            log.error("%s. Rows wait in memory and then the robot holds still, until there is space", why)
        self._blocked = why
