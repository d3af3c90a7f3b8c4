"""Relayed: a tunnel of doors on this machine and one kept session for each class of traffic. SSH and SOCKS are such."""

import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from user_rl.tunnels.backoff import Backoff, BackoffConfig
from user_rl.tunnels.door import Door
from user_rl.tunnels.session import Keeper, Session
from user_rl.tunnels.tunnel import Traffic, split_address


class Relayed:
    """See Tunnel. `names` are hosts that the other side calls by another name."""

    def __init__(
        self, kind: str, open_session: Callable[[], Awaitable[Session]], backoff: BackoffConfig,
        names: Mapping[str, str], chance: random.Random,
    ) -> None:  # fmt: skip
        self._kind, self._open, self._backoff, self._names, self._chance = kind, open_session, backoff, names, chance
        self._keepers: dict[Traffic, Keeper] = {}
        self._doors: dict[tuple[Traffic, str], Door] = {}

    async def local(self, traffic: Traffic, remote: str) -> str:
        if (traffic, remote) not in self._doors:
            host, port = split_address(remote)
            dial = partial(self._keeper(traffic).dial, self._names.get(host, host), port)
            self._doors[traffic, remote] = await Door.open(dial)
        return self._doors[traffic, remote].address

    async def forget(self, traffic: Traffic, remote: str) -> None:
        door = self._doors.pop((traffic, remote), None)
        if door is not None:
            await door.close()
        if traffic in self._keepers and not any(traffic == other for other, _ in self._doors):
            await self._keepers.pop(traffic).close()

    def states(self) -> dict[Traffic, str]:
        return {traffic: keeper.state for traffic, keeper in self._keepers.items()}

    async def close(self) -> None:
        for traffic, remote in list(self._doors):
            await self.forget(traffic, remote)

    def _keeper(self, traffic: Traffic) -> Keeper:
        if traffic not in self._keepers:
            name = f"{self._kind} tunnel for {traffic}"
            self._keepers[traffic] = Keeper(name, self._open, Backoff(self._backoff, self._chance))
        return self._keepers[traffic]
