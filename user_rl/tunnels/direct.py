"""Direct: no tunnel. The address itself."""

from user_rl.tunnels.tunnel import OPEN, Traffic, split_address


class Direct:
    """See Tunnel."""

    def __init__(self) -> None:
        self._known: set[tuple[Traffic, str]] = set()

    async def local(self, traffic: Traffic, remote: str) -> str:
        split_address(remote)
        self._known.add((traffic, remote))
        return remote

    async def forget(self, traffic: Traffic, remote: str) -> None:
        self._known.discard((traffic, remote))

    def states(self) -> dict[Traffic, str]:
        return {traffic: OPEN for traffic, _ in self._known}

    async def close(self) -> None:
        self._known.clear()
