"""FleetLine: the fleet's client, made anew when the way to the fleet begins elsewhere."""

from edge.paths import Paths
from user_rl.errors import Unreachable
from user_rl.fleet import FleetClient
from user_rl.trust import Bundle
from user_rl.tunnels.tunnel import Traffic


class FleetLine:
    """One thread."""

    def __init__(self, bundle: Bundle, paths: Paths, *, deadline_s: float) -> None:
        self._bundle, self._paths, self._deadline_s = bundle, paths, deadline_s
        self._client: FleetClient | None = None

    def client(self) -> FleetClient:
        """The one for now; raises Unreachable while the tunnel has no address for the fleet."""
        address = self._paths.local(Traffic.FLEET, self._bundle.fleet_address)
        if not address:
            raise Unreachable(f"the tunnel to the fleet at {self._bundle.fleet_address} is not there yet")
        if self._client is None or self._client.address != address:
            self.close()
            self._client = FleetClient(self._bundle.at(address), deadline_s=self._deadline_s)
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
