"""Callers: who is at the other end of a call, whether it is enrolled now, how often it calls, when it was last seen."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import msgspec

from cloud.authority import Authority
from cloud.enrolments import Enrolment
from user_rl.clock import Clock
from user_rl.errors import ConfigError, Limited, Unauthorized
from user_rl.files import write_atomically
from user_rl.fleet import Resource
from user_rl.limits import Buckets

log = logging.getLogger(__name__)

SHORT = 0.1  # of an enrolment's life is left: a person should look why it is not renewed


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """How often one name may call. An edge calls once a second, a run a few times."""

    calls_hz: float = 200.0
    burst: int = 1000

    def __post_init__(self) -> None:
        if not self.calls_hz > 0 or not self.burst >= 1:
            raise ConfigError(f"{self}: allowed calls_hz above 0 and burst of 1 or more; leave them out")


class Callers:
    """Every name that calls the fleet. Thread-safe."""

    def __init__(self, authority: Authority, limits: CallLimits, clock: Clock, wall: Callable[[], float]) -> None:
        self._authority, self._limits, self._wall = authority, limits, wall
        self._mutex = threading.Lock()
        self._buckets = Buckets(limits.calls_hz, limits.burst, clock)
        self._seen_s: dict[str, float] = {}  # by identity, wall clock
        self._kept: dict[str, float] = {}

    def presented(self, context: grpc.ServicerContext) -> tuple[str, bytes]:
        """The name and the certificate (PEM) that TLS has proven; whether it is enrolled says `admit`."""
        auth = {key: bytes(next(iter(values), b"")) for key, values in context.auth_context().items()}
        return auth.get("x509_common_name", b"").decode(errors="replace"), auth.get("x509_pem_cert", b"")

    def admit(self, identity: str, cert_pem: bytes) -> str:
        """`identity`, if it may call now; raises Unauthorized for one that is not enrolled, Limited for a flood."""
        if not self._authority.knows(identity, cert_pem):
            raise Unauthorized(f"{identity} is not enrolled with this certificate; enrol it and use its newest bundle")
        with self._mutex:
            self._seen_s[identity] = self._wall()
            if not self._buckets.take(identity):
                raise Limited(
                    f"{identity} calls too often, allowed {self._limits.calls_hz:g} calls/s and {self._limits.burst} "
                    "at once; go on more slowly"
                )
        return identity

    def still_knows(self, context: grpc.ServicerContext) -> bool:
        """Whether the caller is enrolled now."""
        return self._authority.knows(*self.presented(context))

    def warned(self, resource: Resource) -> Resource:
        """`resource`, with a word when its name is about to expire."""
        found = self._authority.enrolled().get(f"edge:{resource.id}")
        warning = expiry_warning(found, self._wall()) if found is not None and resource.kind == "cell" else ""
        return replace(resource, reason="; ".join(filter(None, (resource.reason, warning))))

    def keep(self, path: Path) -> None:
        """Writes when each name was last seen, if that has changed."""
        with self._mutex:
            seen = dict(self._seen_s)
        if seen == self._kept:
            return
        self._kept = seen
        try:
            write_atomically(path, msgspec.json.encode({**read_seen(path), **seen}), mode=0o600)
        except OSError as error:
            log.warning("%s: %s; nobody was seen since", path, error)


def expiry_warning(enrolment: Enrolment, now_s: float) -> str:
    """What a person should know of an enrolment that ends soon; empty when there is time."""
    if enrolment.expires_s is None or enrolment.expires_s - now_s > SHORT * enrolment.life_s(0.0):
        return ""
    left_h = (enrolment.expires_s - now_s) / 3600
    return f"its enrolment ends in {left_h:.1f} h and was not renewed" if left_h > 0 else "its enrolment has ended"


def read_seen(path: Path) -> dict[str, float]:
    """When each name was last seen, wall clock, as a fleet has written it; nothing where none has."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, float])
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
