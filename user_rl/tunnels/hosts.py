"""The known_hosts file: how a jump host's key gets into it, by a person who has compared it. Never by itself."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from user_rl.errors import Unreachable
from user_rl.files import write_atomically
from user_rl.tunnels.ssh import PORT, check_library, split_via


@dataclass(frozen=True, kw_only=True)
class HostKey:
    """What a jump host shows of itself: nothing proves it before a person has compared `fingerprint`."""

    host: str
    port: int
    public: str  # as OpenSSH writes it: KIND BASE64
    fingerprint: str  # SHA256:BASE64

    @property
    def line(self) -> str:
        """What known_hosts says of it."""
        name = self.host if self.port == PORT else f"[{self.host}]:{self.port}"
        return f"{name} {self.public}"


async def fetch_host_key(via: str, within_s: float) -> HostKey:
    """Asks USER@HOST[:PORT] for its key, without logging in; raises Unreachable."""
    check_library()
    import asyncssh

    _, host, port = split_via(via)
    try:
        async with asyncio.timeout(within_s):
            key = await asyncssh.get_server_host_key(host, port, config=None)
    except (OSError, asyncssh.Error) as error:
        raise Unreachable(f"no SSH at {host}:{port}: {error}; see the address") from error
    if key is None:
        raise Unreachable(f"{host}:{port} shows no host key; see what listens there")
    kind, base64 = key.export_public_key("openssh").decode().split()[:2]
    return HostKey(host=host, port=port, public=f"{kind} {base64}", fingerprint=key.get_fingerprint())


def known(path: Path, key: HostKey) -> bool:
    """Whether the file has this very key for this host."""
    return path.is_file() and key.line in path.read_text().splitlines()


def remember(path: Path, key: HostKey) -> None:
    """Writes the key down, for a person who has compared it; what the file said of this host before is replaced."""
    name = key.line.split()[0]
    lines = path.read_text().splitlines() if path.is_file() else []
    kept = [line for line in lines if line.split(" ", 1)[0] != name]
    text = "".join(f"{line}\n" for line in [*kept, key.line])
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    write_atomically(Path(os.path.realpath(path)), text.encode(), mode=mode)
