"""The conversation in which a person confirms a jump host's key: `user-rl-edge tunnel --learn-host`, and user-rl's."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from user_rl.errors import ConfigError
from user_rl.tunnels.hosts import fetch_host_key, known, remember
from user_rl.tunnels.ssh import split_via


def learn_host(via: str, known_hosts: str, *, ask: Callable[[str], str], say: Callable[[str], None]) -> bool:
    """Shows the key's fingerprint and writes it down if `ask` is answered by it; whether the host is known now."""
    if not known_hosts:
        raise ConfigError("no known_hosts file is named; say where the key is to be written")
    try:
        split_via(via)
    except ValueError as error:
        raise ConfigError(f"{error}") from error
    path = Path(known_hosts).expanduser()
    key = asyncio.run(fetch_host_key(via, within_s=10.0))
    if known(path, key):
        say(f"{path} has {key.host}:{key.port} already, with this very key: {key.fingerprint}")
        return True
    say(f"{key.host}:{key.port} shows the key {key.fingerprint} ({key.public.split()[0]}).")
    say("Compare it with what the host itself says: ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub, at its own console.")
    if ask("Type the fingerprint's last 6 characters if they are the same there: ").strip() != key.fingerprint[-6:]:
        say("nothing was written")
        return False
    remember(path, key)
    say(f"written to {path}")
    return True
