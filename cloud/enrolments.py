"""Enrolments: what is known of each name, and how a join, a renewal and a revocation change it. No files, no keys."""

from typing import Final, NamedTuple

import msgspec

from user_rl.errors import ConfigError, Unauthorized
from user_rl.trust import NAME_PATTERN, EnrolledName, Kind

DAY_S: Final = 86400.0
OLDER_S: Final = 3600.0  # how long the certificate before goes on once the new one was used
FORGET_S: Final = 30 * DAY_S  # a join file that ended is remembered so long, for a clear answer


class Ticket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a join file becomes."""

    kind: Kind
    valid_s: float
    used: str = ""  # names the keys that used it, hex


class Enrolment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is known of an enrolled identity; nothing of it is secret. Times are the wall clock's."""

    curve_public: str
    certificate: str  # sha256 of its DER form, hex
    issued_s: float = 0.0
    expires_s: float | None = None  # None: enrolled before names expired; its certificate lasts ten years
    older: str = ""  # the certificate that it renewed with
    older_until_s: float | None = None  # None: the new one was not used yet
    ticket: Ticket | None = None  # it is a join file, which may join and nothing else

    def lives(self, now_s: float) -> bool:
        """Whether it has not expired."""
        return self.expires_s is None or now_s < self.expires_s

    def holds(self, certificate: str, now_s: float) -> bool:
        """Whether this is its certificate, or the one before while that still counts."""
        older = self.older_until_s is None or now_s < self.older_until_s
        return self.lives(now_s) and (certificate == self.certificate or (certificate == self.older != "" and older))

    def life_s(self, default_s: float) -> float:
        """How long it was enrolled for."""
        return default_s if self.expires_s is None else self.expires_s - self.issued_s

    @property
    def unsettled(self) -> bool:
        """Whether the certificate before goes on until the new one is used."""
        return bool(self.older) and self.older_until_s is None


Enrolments = dict[str, Enrolment]  # by identity, `kind:name`


class Issued(NamedTuple):
    """What a join or a renewal has made."""

    identity: str
    cert_pem: str
    expires_s: float


def identity_of(name: str, kind: Kind) -> str:
    """`kind:name`; raises ConfigError for a name that would break an identity or a stream."""
    try:
        msgspec.convert(name, EnrolledName)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the name {name!r} of a new {kind}, allowed {NAME_PATTERN}; choose another") from error
    return f"{kind}:{name}"


def joined(
    enrolled: Enrolments, identity: str, certificate: str, keys: str, curve_public: str, now_s: float
) -> tuple[str, Ticket]:
    """Who the holder of the join file `identity` becomes with `keys`, and its ticket afterwards."""
    name, found = identity.partition(":")[2], enrolled.get(identity)
    ticket = found.ticket if found is not None and found.holds(certificate, now_s) else None
    again = f"make a new join file with user-rl enroll {name}"
    if ticket is None:
        raise Unauthorized(f"{identity} may not join: its join file is over, replaced or revoked; {again}")
    if ticket.used not in ("", keys):
        raise Unauthorized(f"{identity} may not join: its join file was used already, by other keys; {again}")
    final = f"{ticket.kind}:{name}"
    if ticket.used and (final not in enrolled or enrolled[final].curve_public != curve_public):
        raise Unauthorized(f"{identity} may not join again: {final} was revoked or enrolled anew since; {again}")
    return final, msgspec.structs.replace(ticket, used=keys)


def renewed(enrolled: Enrolments, identity: str, certificate: str, curve_public: str, now_s: float) -> Enrolment:
    """The enrolment that `identity` may renew."""
    old = enrolled.get(identity)
    if old is None or old.ticket is not None or not old.holds(certificate, now_s):
        raise Unauthorized(f"{identity} is not enrolled with this certificate; enrol it and use its newest bundle")
    if old.curve_public != curve_public:
        raise Unauthorized(f"{identity} renews with another CURVE key, allowed its own; join again for new ones")
    return old


def revoked(enrolled: Enrolments, name: str, kind: Kind) -> Enrolments:
    """Without `kind:name` and without its join file."""
    identity, invitation = f"{kind}:{name}", enrolled.get(f"join:{name}")
    gone = {identity} & enrolled.keys()
    if invitation is not None and invitation.ticket is not None and invitation.ticket.kind == kind:
        gone |= {f"join:{name}"}
    if not gone:
        raise ConfigError(f"{identity} is not enrolled, allowed {', '.join(enrolled) or 'none'}; see its name")
    return {i: e for i, e in enrolled.items() if i not in gone}


def settled(enrolled: Enrolments, identity: str, now_s: float) -> Enrolments:
    """The new certificate was used: the one before ends soon."""
    found = enrolled.get(identity)
    if found is None or not found.unsettled:
        return enrolled
    return {**enrolled, identity: msgspec.structs.replace(found, older_until_s=now_s + OLDER_S)}


def free_key(before: Enrolments, after: Enrolments) -> None:
    """Raises Unauthorized when a new CURVE key is another name's: nobody may take a robot's place on the data plane."""
    new = {i: e.curve_public for i, e in after.items() if i not in before or before[i].curve_public != e.curve_public}
    for identity, key in new.items():
        if any(e.curve_public == key for other, e in after.items() if other != identity):
            raise Unauthorized(f"{identity} comes with a CURVE key that another name has; make new keys")


def pruned(enrolled: Enrolments, now_s: float) -> Enrolments:
    """Without join files that ended long ago."""
    return {i: e for i, e in enrolled.items() if e.ticket is None or e.lives(now_s - FORGET_S)}
