"""SSH against a real OpenSSH server: whom it trusts, what it survives, and that nothing piles up."""

import asyncio
import contextlib
import random
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.netlab.sshd import Sshd, free_port, make_key
from tests.user_rl.tunnels.rig import Echo, needs_sshd, until
from user_rl.tunnels import Traffic, Tunnel, TunnelConfig, make_tunnel, split_address
from user_rl.tunnels.backoff import BackoffConfig
from user_rl.tunnels.reverse import Reverse, port_from_text
from user_rl.tunnels.ssh import SshConfig

pytestmark = [pytest.mark.slow, needs_sshd]
QUICK = BackoffConfig(first_s=0.05, longest_s=0.2)


@pytest.fixture
def jump(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "jump") as server:
        yield server


def ssh_to(jump: Sshd, **changes: object) -> SshConfig:
    config = SshConfig(via=jump.via, key_file=str(jump.folder / "user"), known_hosts=str(jump.known_hosts))
    return replace(config, **changes)  # type: ignore[arg-type]  # whatever a test changes


def through(ssh: SshConfig, test: Callable[[Tunnel, Echo], Awaitable[None]]) -> None:
    """Runs `test` with a tunnel and an echo beyond it."""

    async def run() -> None:
        async with Echo() as echo:
            tunnel = make_tunnel(TunnelConfig(kind="ssh", ssh=ssh, backoff=QUICK), random.Random(0))
            try:
                await test(tunnel, echo)
            finally:
                await tunnel.close()

    asyncio.run(run())


async def echoed(address: str, data: bytes = b"hello") -> bool:
    try:
        reader, writer = await asyncio.open_connection(*split_address(address))
    except OSError:
        return False
    try:
        writer.write(data)
        async with asyncio.timeout(2.0):
            return await reader.readexactly(len(data)) == data
    except (OSError, EOFError):
        return False
    finally:
        writer.transport.abort()


async def until_echoed(address: str, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not await echoed(address):
            await asyncio.sleep(0.02)


def refused(jump: Sshd, ssh: SshConfig, line: str, caplog: pytest.LogCaptureFixture) -> None:
    """The tunnel does not open, says why, and not one connection goes through."""

    async def test(tunnel: Tunnel, echo: Echo) -> None:
        here = await tunnel.local(Traffic.FLEET, echo.address)
        await until(lambda: line in tunnel.states()[Traffic.FLEET])
        assert not await echoed(here)
        assert echo.connections == 0

    through(ssh, test)
    assert [r.levelname for r in caplog.records if line in r.message] == ["ERROR"]
    assert "Accepted" not in jump.said


def test_another_host_key_than_the_known_one_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    make_key(jump.folder / "other")
    kind, key = (jump.folder / "other.pub").read_text().split()[:2]
    jump.known_hosts.write_text(f"[127.0.0.1]:{jump.port} {kind} {key}\n")
    refused(jump, ssh_to(jump), "is not the host in", caplog)
    assert "publickey" not in jump.said  # it did not even offer its key


def test_a_host_that_nobody_confirmed_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    jump.known_hosts.write_text("")
    refused(jump, ssh_to(jump), "NOTHING was sent", caplog)
    assert jump.known_hosts.read_text() == ""  # and is not trusted from then on either


def test_a_missing_known_hosts_file_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    jump.known_hosts.unlink()
    refused(jump, ssh_to(jump), "no such file; write it with user-rl-edge tunnel --learn-host", caplog)


def test_a_key_that_the_jump_host_does_not_know_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    make_key(jump.folder / "stranger")
    ssh = ssh_to(jump, key_file=str(jump.folder / "stranger"))
    refused(jump, ssh, "add its public key to that user's authorized_keys", caplog)


def test_a_key_that_others_may_read_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    (jump.folder / "user").chmod(0o644)
    refused(jump, ssh_to(jump), "holds secrets and has mode 0644, allowed 0600", caplog)


def test_a_key_without_its_passphrase_is_refused(jump: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    make_key(jump.folder / "locked", "-t", "ecdsa", "-m", "PKCS8", passphrase="sesame")
    refused(jump, ssh_to(jump, key_file=str(jump.folder / "locked")), "and the passphrase_file it needs", caplog)


def test_the_agents_keys_are_taken_where_that_is_configured(jump: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    socket_path = f"/tmp/tun-agent-{jump.port}"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", socket_path)

        async def test(tunnel: Tunnel, echo: Echo) -> None:
            await until(Path(socket_path).exists)
            subprocess.run(["ssh-add", "-q", str(jump.folder / "user")], check=True)
            await until_echoed(await tunnel.local(Traffic.FLEET, echo.address))

        through(ssh_to(jump, key_file="", agent=True), test)
    finally:
        agent.terminate()
        agent.wait()


def test_what_a_person_corrects_is_taken_up_without_a_restart(jump: Sshd) -> None:
    right = jump.known_hosts.read_text()
    jump.known_hosts.write_text("")

    async def test(tunnel: Tunnel, echo: Echo) -> None:
        here = await tunnel.local(Traffic.FLEET, echo.address)
        await until(lambda: "NOTHING was sent" in tunnel.states()[Traffic.FLEET])
        jump.known_hosts.write_text(right)
        await until_echoed(here)

    through(ssh_to(jump), test)


def test_a_killed_server_that_comes_back_is_reached_again_at_the_same_address(jump: Sshd) -> None:
    async def test(tunnel: Tunnel, echo: Echo) -> None:
        here = await tunnel.local(Traffic.WEIGHTS, echo.address)
        await until_echoed(here)
        reader, writer = await asyncio.open_connection(*split_address(here))
        jump.kill()
        assert await reader.read() == b""  # who was connected is told
        writer.close()
        await until(lambda: "no SSH at" in tunnel.states()[Traffic.WEIGHTS])
        jump.start()
        await until_echoed(here)
        assert tunnel.states()[Traffic.WEIGHTS] == "open"

    through(ssh_to(jump), test)


def test_a_half_open_connection_is_noticed_by_its_silence_and_opened_again(jump: Sshd) -> None:
    async def test(tunnel: Tunnel, echo: Echo) -> None:
        here = await tunnel.local(Traffic.LIVE, echo.address)
        await until_echoed(here)
        jump.signal(signal.SIGSTOP)
        await until(lambda: tunnel.states()[Traffic.LIVE] != "open")
        jump.signal(signal.SIGCONT)
        await until_echoed(here)

    through(ssh_to(jump, keepalive_s=0.2, keepalive_missed=2, connect_s=0.5), test)


def test_a_port_where_nothing_listens_is_told_and_does_not_end_the_way(jump: Sshd) -> None:
    async def test(tunnel: Tunnel, echo: Echo) -> None:
        await until_echoed(await tunnel.local(Traffic.LIVE, echo.address))
        nobody = f"127.0.0.1:{free_port()}"
        assert not await echoed(await tunnel.local(Traffic.LIVE, nobody))
        assert f"does not reach {nobody}" in tunnel.states()[Traffic.LIVE]
        assert await echoed(await tunnel.local(Traffic.LIVE, echo.address))

    through(ssh_to(jump), test)


def test_a_sender_is_held_back_while_the_other_side_does_not_read(jump: Sshd) -> None:
    async def test(tunnel: Tunnel, echo: Echo) -> None:
        here = await tunnel.local(Traffic.EXPERIENCE, echo.address)
        await until_echoed(here)
        echo.stalled = True
        _, writer = await asyncio.open_connection(*split_address(here))
        sent, piece = 0, bytes(2**18)
        with contextlib.suppress(TimeoutError):
            while sent < 2**28:
                async with asyncio.timeout(1.0):
                    writer.write(piece)
                    await writer.drain()
                sent += len(piece)
        writer.transport.abort()
        assert 2**16 < sent < 2**25  # what sockets and SSH's window hold, and no more

    through(ssh_to(jump), test)


def test_the_cloud_that_can_only_dial_out_is_reached_through_a_port_of_the_jump_host(jump: Sshd) -> None:
    async def test(tunnel: Tunnel, echo: Echo) -> None:
        number = free_port()
        ports = [port_from_text(f"{number}:{echo.address}")]
        reverse = Reverse(ssh_to(jump), ports, QUICK, random.Random(1))
        try:
            here = await tunnel.local(Traffic.EXPERIENCE, f"gpu-box:{number}")
            await until_echoed(here)
            jump.kill()
            await until(lambda: "no SSH at" in next(iter(reverse.states().values())))
            jump.start()
            await until_echoed(here)
        finally:
            await reverse.close()
        assert not await echoed(here)

    async def run() -> None:
        async with Echo() as echo:
            config = TunnelConfig(kind="ssh", ssh=ssh_to(jump), backoff=QUICK, names={"gpu-box": "127.0.0.1"})
            tunnel = make_tunnel(config, random.Random(0))
            try:
                await test(tunnel, echo)
            finally:
                await tunnel.close()

    asyncio.run(run())


def test_a_port_of_the_jump_host_that_is_taken_is_told(jump: Sshd) -> None:
    async def run() -> None:
        async with Echo() as echo:
            taken = port_from_text(echo.address.rpartition(":")[2])
            reverse = Reverse(ssh_to(jump), [taken], QUICK, random.Random(1))
            try:
                await until(lambda: "free the port there" in reverse.states()[str(taken)])
            finally:
                await reverse.close()

    asyncio.run(run())
