"""The table of the kinds of tunnel, and what says which one."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from user_rl.config import nearest
from user_rl.tunnels.backoff import BackoffConfig
from user_rl.tunnels.direct import Direct
from user_rl.tunnels.relayed import Relayed
from user_rl.tunnels.socks import SocksConfig, open_socks
from user_rl.tunnels.ssh import SshConfig, open_ssh
from user_rl.tunnels.tunnel import Tunnel


@dataclass(frozen=True, kw_only=True)
class TunnelConfig:
    """Which way this machine's connections take."""

    kind: str = "direct"  # one of TUNNELS
    ssh: SshConfig = field(default_factory=SshConfig)
    socks: SocksConfig = field(default_factory=SocksConfig)
    names: dict[str, str] = field(default_factory=dict)  # {host as the cloud names it: as the other side reaches it}
    backoff: BackoffConfig = field(default_factory=BackoffConfig)

    def __post_init__(self) -> None:
        if self.kind not in TUNNELS:
            raise ValueError(f"kind = {self.kind}, no such tunnel, {nearest(self.kind, list(TUNNELS))}")
        if self.kind == "ssh":
            self.ssh.check()
        if self.kind == "socks":
            self.socks.check()

    @property
    def direct(self) -> bool:
        """Whether there is no tunnel."""
        return self.kind == "direct"


def make_tunnel(config: TunnelConfig, chance: random.Random) -> Tunnel:
    """The tunnel that `config` names; it opens nothing before it is asked for an address."""
    return TUNNELS[config.kind](config, chance)


def _direct(config: TunnelConfig, chance: random.Random) -> Tunnel:
    return Direct()


def _ssh(config: TunnelConfig, chance: random.Random) -> Tunnel:
    return Relayed("SSH", partial(open_ssh, config.ssh), config.backoff, config.names, chance)


def _socks(config: TunnelConfig, chance: random.Random) -> Tunnel:
    return Relayed("SOCKS", partial(open_socks, config.socks), config.backoff, config.names, chance)


TUNNELS: dict[str, Callable[[TunnelConfig, random.Random], Tunnel]] = {"direct": _direct, "ssh": _ssh, "socks": _socks}
