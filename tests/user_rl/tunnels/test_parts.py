"""The parts of a tunnel: back-off, doors, known hosts, the reverse's ports, and what is said without a library."""

import asyncio
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.netlab.sshd import Sshd
from tests.user_rl.tunnels.rig import Echo, Proxy, needs_sshd, until
from user_rl.errors import ConfigError, Unreachable
from user_rl.tunnels import Traffic, TunnelConfig, make_tunnel, split_address
from user_rl.tunnels.backoff import Backoff, BackoffConfig
from user_rl.tunnels.door import Door
from user_rl.tunnels.hosts import HostKey, known, remember
from user_rl.tunnels.learning import learn_host
from user_rl.tunnels.reverse import Port, port_from_text
from user_rl.tunnels.session import Streams
from user_rl.tunnels.socks import SocksConfig

KEY = HostKey(host="jump", port=22, public="ssh-ed25519 AAAA", fingerprint="SHA256:abcdef123456")
NOBODY = 65534


def test_pauses_double_up_to_the_longest_and_are_shortened_by_chance() -> None:
    backoff = Backoff(BackoffConfig(), random.Random(3))
    pauses = [backoff.pause_s() for _ in range(12)]
    wholes = [min(0.2 * 2**n, 30.0) for n in range(12)]
    assert all(whole / 2 <= pause <= whole for pause, whole in zip(pauses, wholes, strict=True))
    assert len({pause / whole for pause, whole in zip(pauses, wholes, strict=True)}) == 12


def test_what_stayed_open_begins_with_the_short_pause_again_and_what_flaps_does_not() -> None:
    backoff = Backoff(BackoffConfig(steady_s=5.0), random.Random(3))
    for _ in range(6):
        backoff.pause_s(was_open_s=4.9)
    assert backoff.pause_s(was_open_s=4.9) > 0.4
    assert backoff.pause_s(was_open_s=5.0) <= 0.2


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "50051:", "50051:gpu-box", "50051:gpu-box:0"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="correct it"):
        port_from_text(text)


def test_a_port_stands_for_itself_or_for_another_address() -> None:
    assert port_from_text("50051") == Port(number=50051, host="127.0.0.1", port=50051)
    assert port_from_text("7000:gpu-box:50051") == Port(number=7000, host="gpu-box", port=50051)


def test_a_key_is_written_beside_the_others_and_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("other ssh-rsa BBBB\njump ssh-rsa CCCC\n")
    assert not known(path, KEY)
    remember(path, KEY)
    assert path.read_text() == "other ssh-rsa BBBB\njump ssh-ed25519 AAAA\n"
    assert known(path, KEY)
    assert HostKey(host="jump", port=2222, public="a b", fingerprint="").line == "[jump]:2222 a b"


@needs_sshd
@pytest.mark.slow
def test_a_person_compares_a_fingerprint_and_only_then_the_host_is_known(tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump:
        argv = ["ssh-keygen", "-lf", str(jump.folder / "host.pub")]
        truth = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]
        path, said = tmp_path / "hosts", list[str]()
        for answer in ("", "y", "yes"):
            assert not learn_host(jump.via, str(path), ask=lambda _, a=answer: a, say=said.append)  # type: ignore[misc]
            assert not path.exists()
        assert re.search(re.escape(truth), said[0])
        assert learn_host(jump.via, str(path), ask=lambda _: truth[-6:], say=said.append)
        assert path.read_text() == jump.known_hosts.read_text()
        assert learn_host(jump.via, str(path), ask=pytest.fail, say=said.append)
        with pytest.raises(ConfigError, match="no known_hosts file is named"):
            learn_host(jump.via, "", ask=pytest.fail, say=said.append)


def test_another_users_process_is_turned_away() -> None:
    if not (Path("/proc/net/tcp").exists() and hasattr(__import__("os"), "setuid")):
        pytest.skip("this system does not say whose a connection is")
    if __import__("os").getuid() != 0:
        pytest.skip("only root may start another user's process")
    code = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.sendall(b'hello');"
        "s.settimeout(20); data = s.recv(5); sys.exit(0 if data == b'hello' else 3)"
    )

    async def run() -> None:
        async with Echo() as echo:

            async def dial() -> Streams:
                return await asyncio.open_connection(*split_address(echo.address))

            door = await Door.open(dial)
            port = door.address.rpartition(":")[2]
            for user, end in ((None, 0), (NOBODY, 3)):
                argv = ["/usr/bin/env", "python3", "-c", code, port]
                child = await asyncio.create_subprocess_exec(*argv, user=user, stderr=subprocess.DEVNULL)
                code_ = await child.wait()
                assert (code_ == 0) == (end == 0)
            assert echo.connections == 1
            await door.close()

    asyncio.run(run())


def test_a_proxy_that_dies_is_told_and_is_used_again_when_it_is_back() -> None:
    async def run() -> None:
        async with Echo() as echo:
            async with Proxy() as proxy:
                config = TunnelConfig(
                    kind="socks", socks=SocksConfig(proxy=proxy.address, probe_s=0.1),
                    backoff=BackoffConfig(first_s=0.02, longest_s=0.1),
                )  # fmt: skip
                tunnel = make_tunnel(config, random.Random(0))
                await tunnel.local(Traffic.FLEET, echo.address)
                await until(lambda: tunnel.states()[Traffic.FLEET] == "open")
            await until(lambda: f"no proxy at {proxy.address}" in tunnel.states()[Traffic.FLEET])
            await tunnel.close()

    asyncio.run(run())


def test_a_wrong_password_for_the_proxy_is_told(tmp_path: Path) -> None:
    word = tmp_path / "word"
    word.write_text("wrong\n")
    word.chmod(0o600)

    async def run() -> None:
        async with Echo() as echo, Proxy("robot", "right") as proxy:
            socks = SocksConfig(proxy=proxy.address, user="robot", password_file=str(word))
            tunnel = make_tunnel(TunnelConfig(kind="socks", socks=socks), random.Random(0))
            here = await tunnel.local(Traffic.FLEET, echo.address)
            await until(lambda: tunnel.states()[Traffic.FLEET] == "open")
            reader, writer = await asyncio.open_connection(*split_address(here))
            assert await reader.read() == b""
            writer.close()
            assert "does not reach" in tunnel.states()[Traffic.FLEET]
            assert "uthentic" in tunnel.states()[Traffic.FLEET]
            assert "wrong" not in tunnel.states()[Traffic.FLEET]
            assert echo.connections == 0
            await tunnel.close()

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize(("library", "extra"), [("asyncssh", "ssh"), ("python_socks", "socks")])
def test_a_library_that_is_missing_is_named_with_what_brings_it(library: str, extra: str) -> None:
    code = (
        f"import sys, asyncio; sys.modules['{library}'] = None\n"
        "from user_rl.errors import ConfigError\n"
        "from user_rl.tunnels.ssh import SshConfig, open_ssh\n"
        "from user_rl.tunnels.socks import SocksConfig, open_socks\n"
        f"opened = open_ssh(SshConfig(via='a@b')) if '{extra}' == 'ssh' else open_socks(SocksConfig(proxy='a:1'))\n"
        "try:\n    asyncio.run(opened)\nexcept ConfigError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install 'user-rl[{extra}]'" in done.stdout
    assert Unreachable.__name__ not in done.stderr
