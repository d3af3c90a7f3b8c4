"""Every kind of tunnel keeps the contract, and a mistake in the configuration says so."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from scripts.netlab.sshd import Sshd, make_key
from tests.user_rl.tunnels.rig import Echo, Proxy, needs_sshd
from user_rl.config import build
from user_rl.errors import ConfigError
from user_rl.tunnels import TunnelConfig, make_tunnel
from user_rl.tunnels.socks import SocksConfig
from user_rl.tunnels.ssh import SshConfig, split_via
from user_rl.tunnels.testing import check_tunnel

pytestmark = pytest.mark.slow
CHANCE = random.Random(0)


def check(config: TunnelConfig, remote: str = "") -> None:
    async def run() -> None:
        async with Echo() as echo:
            await check_tunnel(lambda: make_tunnel(config, CHANCE), remote or echo.address)

    asyncio.run(run())


def test_no_tunnel_keeps_the_contract() -> None:
    check(TunnelConfig())


@needs_sshd
def test_ssh_keeps_the_contract(tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        ssh = SshConfig(via=jump.via, key_file=str(jump.folder / "user"), known_hosts=str(jump.known_hosts))
        check(TunnelConfig(kind="ssh", ssh=ssh))
        assert jump.said.count("Accepted publickey") == 2  # one connection per class of traffic


@needs_sshd
def test_a_key_with_a_passphrase_is_opened_with_it(tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        make_key(jump.folder / "locked", "-t", "ecdsa", "-m", "PKCS8", passphrase="open sesame")
        jump.allow("locked")
        word = tmp_path / "word"
        word.write_text("open sesame\n")
        word.chmod(0o600)
        ssh = SshConfig(
            via=jump.via, key_file=str(jump.folder / "locked"), known_hosts=str(jump.known_hosts),
            passphrase_file=str(word),
        )  # fmt: skip
        check(TunnelConfig(kind="ssh", ssh=ssh))


@pytest.mark.parametrize("login", [("", ""), ("robot", "s3cret")])
def test_socks_keeps_the_contract(tmp_path: Path, login: tuple[str, str]) -> None:
    word = tmp_path / "word"
    word.write_text(login[1])
    word.chmod(0o600)

    async def run() -> None:
        async with Echo() as echo, Proxy(*login) as proxy:
            password = str(word) if login[0] else ""
            socks = SocksConfig(proxy=proxy.address, user=login[0], password_file=password)
            remote = f"echo.lab:{echo.address.rpartition(':')[2]}"
            config = TunnelConfig(kind="socks", socks=socks)
            await check_tunnel(lambda: make_tunnel(config, CHANCE), remote)
            assert set(proxy.asked) == {"echo.lab"}  # the proxy resolves the name, not this machine

    asyncio.run(run())


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"kind": "shh"}, r"tunnel.kind = shh, no such tunnel, did you mean ssh\?"),
        ({"kind": "ssh"}, r"ssh.via = '', allowed USER@HOST or USER@HOST:PORT; correct it"),
        ({"kind": "ssh", "ssh": {"via": "a@b", "key_file": "k"}}, "ssh.known_hosts is empty, allowed a file"),
        ({"kind": "ssh", "ssh": {"via": "a@b", "known_hosts": "h"}}, "allowed one of them; give a key file, or agent"),
        ({"ssh": {"keepalive_s": 0.0}}, "a half-open connection would never be noticed"),
        ({"kind": "socks"}, "socks.proxy: address '', allowed HOST:PORT"),
        ({"kind": "socks", "socks": {"proxy": "p:1", "user": "u"}}, "allowed both or none; give the other"),
        ({"socks": {"probe_s": 0.0}}, "allowed more than 0"),
        ({"backoff": {"first_s": 2.0, "longest_s": 1.0}}, "allowed 0 < first_s <= longest_s"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build(TunnelConfig, tree, "tunnel.")


def test_a_jump_host_is_a_user_a_host_and_perhaps_a_port() -> None:
    assert split_via("robot@jump") == ("robot", "jump", 22)
    assert split_via("robot@jump:2222") == ("robot", "jump", 2222)
    assert split_via("robot@[fe80::1]:2222") == ("robot", "fe80::1", 2222)
    assert split_via("robot@[fe80::1]") == ("robot", "fe80::1", 22)
    for wrong in ("jump", "@jump", "robot@", "robot@jump:0", "robot@jump:x", "robot@jump:65536"):
        with pytest.raises(ValueError, match="allowed USER@HOST"):
            split_via(wrong)
