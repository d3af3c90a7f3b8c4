"""FleetLine: the fleet's client, made anew when the way to the fleet begins elsewhere."""

from collections.abc import Callable

from edge.paths import Paths
from user_rl.errors import Unreachable
from user_rl.fleet import FleetClient
from user_rl.trust import Bundle
from user_rl.tunnels.tunnel import Traffic


def reachable(bundle: Bundle, paths: Paths) -> Bundle | None:
    """`bundle` with the fleet's addresses as they are reached from here; None: none of them is known yet."""
    here = [paths.local(Traffic.FLEET, address) for address in (bundle.fleet_address, *bundle.more_addresses)]
    known = [address for address in here if address]
    return bundle.at(*known) if known else None


class FleetLine:
    """One thread. `bundle`: the newest that is reachable."""

    def __init__(self, bundle: Callable[[], Bundle | None], *, deadline_s: float) -> None:
        self._bundle, self._deadline_s = bundle, deadline_s
        self._client: FleetClient | None = None
        self._at: tuple[str, ...] = ()

    def client(self) -> FleetClient:
        """The one for now; raises Unreachable while the tunnel has no address for the fleet."""
        bundle = self._bundle()
        if bundle is None:
            raise Unreachable("the tunnel to the fleet is not there yet")
        at = (bundle.fleet_address, *bundle.more_addresses)
        if self._client is None or at != self._at:
            self.close()
            self._client, self._at = FleetClient(bundle, deadline_s=self._deadline_s), at
        return self._client

    def close(self) -> None:
        """Safe to call twice."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> "FleetLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
