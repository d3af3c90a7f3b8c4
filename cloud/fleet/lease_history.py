"""What becomes of leases, for the audit log; and the end of those whose cell's name is not enrolled any more."""

from collections.abc import Mapping

from cloud.authority import Authority
from cloud.fleet.leases import Leases


class LeaseHistory:
    """Looks before and after each call. Under the fleet's lock."""

    def __init__(self, leases: Leases, authority: Authority) -> None:
        self._leases, self._authority = leases, authority
        self._allowed: Mapping[str, str] | None = None
        self._held = leases.held()

    def expel_strangers(self) -> None:
        """A cell whose name was revoked or has expired is leased to nobody until it is enrolled again."""
        allowed = self._authority.allowed()
        if allowed is not self._allowed:
            self._allowed, names = allowed, set(allowed.values())
            for cell in self._leases.cells():
                if f"edge:{cell}" not in names:
                    self._leases.expel(cell, f"edge:{cell} is not enrolled any more; enrol it again")

    def note(self, caller: str) -> None:
        """A line for each lease that has begun or ended with this call."""
        held, before = self._leases.held(), self._held
        self._held = held
        for id, lease in before.items():
            if held.get(id) != lease:
                self._authority.audit.write(caller, "release", id, f"done, of {lease}")
        for id, lease in held.items():
            if before.get(id) != lease:
                self._authority.audit.write(caller, "grant", id, f"done, to {lease}")
