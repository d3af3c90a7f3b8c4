"""Supply: what a server on a site of its own gets from the run: weights as an edge does, and whom it may answer.

One connection outwards, to the gateway's weights socket, in a thread of its own. While that is away, the server goes on
with the version and the guests that it has.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from cloud.inference.config import ServingConfig
from cloud.inference.guests import allow_set
from user_rl.channels import ClientChannel
from user_rl.clock import Clock
from user_rl.downlink import Downlink
from user_rl.errors import WireError
from user_rl.trust import Bundle
from user_rl.wire import Guests, GuestsQuery, Message, Refused, decode, encode

log = logging.getLogger(__name__)

WAIT_S = 0.02
GUESTS_S = 1.0  # between two questions: a revoked key, and a lease that ended, count after so long


class Supply:
    """`run` in a thread; `folder`, `allowed` and `tokens` from any."""

    def __init__(
        self, run: str, address: str, bundle: Bundle, root: Path, config: ServingConfig, *, clock: Clock
    ) -> None:
        """Raises ConfigError for an address that cannot be."""
        self._run_name, self._clock = run, clock
        self._downlink = Downlink(root, run, config, schema=None, action=None)
        self._channel = ClientChannel(address, bundle.curve, bundle.server_curve_public)
        self._guests: dict[str, str] = {}
        self._cells: frozenset[str] = frozenset()
        self._asked_s = float("-inf")
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self.run, name="supply", daemon=True)

    def folder(self) -> Path | None:
        """Where the newest version lies; None before the first."""
        return self._downlink.folder

    def allowed(self) -> Mapping[str, str]:
        """Live: CURVE public key → identity, for the channel."""
        return self._guests

    def tokens(self, cell: str) -> int | None:
        """Not None while the run holds the cell."""
        return 1 if cell in self._cells else None

    def start(self) -> None:
        """Runs it in its thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for that."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def run(self) -> None:
        """Turns until `stop`, then closes the connection."""
        try:
            while not self._stopping.is_set():
                self.turn()
        finally:
            self._channel.close()

    def turn(self) -> None:
        """Hears what has come, asks what is due."""
        frames = self._channel.receive(WAIT_S)
        now_s = self._clock.now_s()
        if frames is not None:
            try:
                message, payloads = decode(frames)
                self._hear(message, payloads[0] if payloads else None, now_s)
            except WireError as error:
                log.warning("from the gateway: %s", error)
        if now_s - self._asked_s >= GUESTS_S and self._channel.send(encode(GuestsQuery(self._run_name))):
            self._asked_s = now_s
        out = self._downlink.next(now_s)
        if out is not None and self._channel.send(encode(out[0])):
            self._downlink.sent(now_s)

    def _hear(self, message: Message, payload: memoryview | None, now_s: float) -> None:
        if isinstance(message, Guests):
            self._guests, self._cells = allow_set(message.cells), frozenset(message.cells.values())
            return
        if isinstance(message, Refused) and message.text != self._complaint:
            self._complaint = message.text
            log.warning("the gateway refuses: %s", message.text)
        self._downlink.receive(message, payload, now_s)
