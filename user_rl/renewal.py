"""Renewal: a name that lives long gets a new certificate before the old one ends, over its own connection.

From two thirds of its life on it asks, and again after a pause when it is refused or not answered. The TLS key is new
each time; the CURVE key stays: who has stolen the bundle has both, and what runs over CURVE need not break. `keep`
writes the new bundle before it is used; until then, and an hour longer, the fleet takes the old certificate too.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from user_rl.errors import Unauthorized, Unreachable, WireError
from user_rl.fleet import FleetClient
from user_rl.trust import Bundle, load_bundle, save_bundle

log = logging.getLogger(__name__)

DUE, SHORT = 1 / 3, 0.1  # of its life is left: renew; warn
PAUSE = 0.01  # of its life, between two attempts
LONGEST_PAUSE_S = 600.0


class Renewal:
    """Keeps the bundle of one client alive. One thread."""

    def __init__(
        self, bundle: Bundle, keep: Callable[[Bundle], None], *, wall: Callable[[], float] = time.time
    ) -> None:
        """`keep` stores a new bundle durably."""
        self.bundle, self._keep, self._wall = bundle, keep, wall
        self._again_s = float("-inf")
        self._warned = False

    def tick(self, client: FleetClient) -> bool:
        """Renews when it is time; True when `client` goes on with a new certificate. Call it when the fleet answers."""
        bundle, now_s = self.bundle, self._wall()
        if bundle.expires_s is None or now_s < self._again_s:
            return False
        life_s, left_s = bundle.expires_s - bundle.issued_s, bundle.expires_s - now_s
        if left_s > DUE * life_s:
            return False
        self._again_s = now_s + min(LONGEST_PAUSE_S, PAUSE * life_s)
        try:
            self.bundle = _renewed(bundle, client, now_s)
        except (Unreachable, Unauthorized, WireError, ImportError) as error:
            self._complain(left_s, life_s, str(error))
            return False
        try:
            self._keep(self.bundle)
        except OSError as error:  # the old one is in the file and still counts
            self.bundle = bundle
            self._complain(left_s, life_s, f"the new bundle cannot be written: {error}")
            return False
        client.use(self.bundle)
        self._warned = False
        log.info("%s is renewed for %.1f days", bundle.identity, life_s / 86400)
        return True

    def _complain(self, left_s: float, life_s: float, why: str) -> None:
        say = log.info
        if left_s < SHORT * life_s and not self._warned:
            self._warned, say = True, log.warning
        name = self.bundle.identity
        say("%s ends in %.1f h and is not renewed: %s; enrol it again if this goes on", name, left_s / 3600, why)


def keep_in(path: Path) -> Callable[[Bundle], None]:
    """What writes a renewed bundle into the file at `path`, whose addresses stay as they are there."""

    def keep(bundle: Bundle) -> None:
        old = load_bundle(path)
        save_bundle(bundle.at(old.fleet_address, *old.more_addresses), path)

    return keep


def _renewed(bundle: Bundle, client: FleetClient, now_s: float) -> Bundle:
    from user_rl.joining import make_request, new_tls_key  # an edge that never renews needs no cryptography

    key_pem = new_tls_key()
    reply = client.renew_certificate(make_request(bundle.identity, key_pem, bundle.curve.public))
    return msgspec.structs.replace(
        bundle, cert_pem=reply.cert_pem, key_pem=key_pem, issued_s=now_s, expires_s=reply.expires_s
    )
