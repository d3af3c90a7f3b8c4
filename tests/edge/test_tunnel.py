"""The tunnel process under a real daemon: rows flow through it, and it may be killed at any instant."""

import asyncio
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.main import main
from edge.paths import ASK_S, FORGET_S, SILENT_S, Found, Straight, Tunnelled, Wanted
from edge.tunnel import Desk
from scripts.netlab.sshd import Sshd
from tests.edge.plant import plant, wait_for
from tests.user_rl.tunnels.rig import needs_sshd
from user_rl.tunnels import Traffic, TunnelConfig, make_tunnel


@pytest.fixture
def jump(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "jump") as server:
        yield server


def by_ssh(jump: Sshd) -> dict[str, Any]:
    ssh = {"via": jump.via, "key_file": str(jump.folder / "user"), "known_hosts": str(jump.known_hosts)}
    return {"kind": "ssh", "ssh": ssh, "backoff": {"first_s": 0.05, "longest_s": 0.5}}


@needs_sshd
@pytest.mark.slow
def test_a_tunnel_and_a_jump_host_killed_while_rows_flow_cost_no_row(tmp_path: Path, jump: Sshd) -> None:
    with plant(tmp_path, tunnel=by_ssh(jump)) as (cloud, daemon):
        cloud.lease()
        for kill in (lambda: daemon.signal("tunnel", signal.SIGKILL), jump.kill):
            held = cloud.rows()
            wait_for(lambda held=held: cloud.rows() > held + 50)  # type: ignore[misc]
            control = daemon.child("control")
            kill()
            if jump.process is None:
                jump.start()
        held = cloud.rows()
        wait_for(lambda: cloud.rows() > held + 100)
        assert daemon.child("control") == control
        assert daemon.stop() == 0
        assert cloud.differences() == (0, 0, 0)
    assert jump.said.count("Accepted publickey") >= 3  # fleet, experience and weights, each its own
    assert "tunnel ended with signal SIGKILL, again in" in daemon.said
    assert "Traceback" not in daemon.said


@needs_sshd
@pytest.mark.slow
def test_a_tunnel_that_cannot_open_keeps_the_robot_waiting_and_says_why(tmp_path: Path, jump: Sshd) -> None:
    jump.known_hosts.write_text("")
    with plant(tmp_path, tunnel=by_ssh(jump)) as (cloud, daemon):
        wait_for(lambda: "NOTHING was sent" in daemon.said)
        wait_for(lambda: "no answer from the fleet at 127.0.0.1:" in daemon.said)
        assert not [r for r in cloud.fleet.list() if r.id == "arm"]
        assert daemon.stop() == 0


@pytest.fixture
def pair() -> Iterator[tuple[Tunnelled, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with there:
        paths = Tunnelled(here.detach())
        yield paths, there
        paths.close()


def test_without_a_tunnel_an_address_is_itself() -> None:
    paths = Straight()
    paths.turn(0.0)
    assert paths.local(Traffic.FLEET, "gpu-box:50051") == "gpu-box:50051"
    assert paths.states() == {}


def asked(there: socket.socket) -> Wanted:
    return msgspec.msgpack.decode(there.recv(2**16), type=Wanted)


def say(there: socket.socket, port: int) -> None:
    ways = ((Traffic.WEIGHTS, "gpu:1", f"127.0.0.1:{port}"),)
    there.send(msgspec.msgpack.encode(Found(ways, {Traffic.WEIGHTS: "open"})))


def test_link_asks_until_it_is_told_and_takes_the_newest_answer(pair: tuple[Tunnelled, socket.socket]) -> None:
    paths, there = pair
    paths.turn(0.0)
    assert asked(there) == Wanted(())
    assert paths.local(Traffic.WEIGHTS, "tcp://gpu:1") == ""
    paths.turn(0.01)  # something new is asked for at once
    assert asked(there) == Wanted(((Traffic.WEIGHTS, "gpu:1"),))
    say(there, 7)
    paths.turn(0.02)
    assert paths.local(Traffic.WEIGHTS, "tcp://gpu:1") == "tcp://127.0.0.1:7"
    assert paths.local(Traffic.WEIGHTS, "gpu:1") == "127.0.0.1:7"
    assert paths.states() == {Traffic.WEIGHTS: "open"}
    say(there, 8)  # a successor's
    paths.turn(0.01 + ASK_S)
    assert asked(there) == Wanted(((Traffic.WEIGHTS, "gpu:1"),))
    assert paths.local(Traffic.WEIGHTS, "gpu:1") == "127.0.0.1:8"
    paths.turn(1.0 + SILENT_S)
    assert paths.states() == {Traffic.WEIGHTS: "the tunnel process does not answer"}
    assert paths.local(Traffic.WEIGHTS, "gpu:1") == "127.0.0.1:8"


def test_what_nobody_asks_for_any_more_is_forgotten(pair: tuple[Tunnelled, socket.socket]) -> None:
    paths, there = pair
    paths.turn(0.0)
    for n in range(1000):
        paths.local(Traffic.WEIGHTS, f"gpu:{n + 1}")
    paths.turn(FORGET_S / 2)
    paths.local(Traffic.WEIGHTS, "gpu:1")
    paths.turn(FORGET_S + 1)
    there.recv(2**16), there.recv(2**16)
    assert asked(there) == Wanted(((Traffic.WEIGHTS, "gpu:1"),))


def test_a_tunnel_that_is_not_there_blocks_nobody(pair: tuple[Tunnelled, socket.socket]) -> None:
    paths, there = pair
    for n in range(2000):
        paths.turn(n * ASK_S)
    there.close()
    paths.turn(2001 * ASK_S)
    assert paths.local(Traffic.FLEET, "gpu:1") == ""


async def _answers(desk: Desk) -> list[Found]:
    one, two = (Traffic.FLEET, "gpu:1"), (Traffic.WEIGHTS, "gpu:2")
    questions = (Wanted((one,)), Wanted((one, two)), Wanted((two,)), Wanted(((Traffic.LIVE, "nonsense"), two)))
    return [await desk.answer(question) for question in questions]


def test_the_tunnel_process_opens_and_ends_what_link_names(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        tunnel = make_tunnel(TunnelConfig(), random.Random(0))
        found = asyncio.run(_answers(Desk(tunnel, ours)))
    assert [[way[1] for way in answer.ways] for answer in found] == [
        ["gpu:1"],
        ["gpu:1", "gpu:2"],
        ["gpu:2"],
        ["gpu:2"],
    ]
    assert [set(answer.states) for answer in found][2] == {Traffic.WEIGHTS}
    assert "address 'nonsense', allowed HOST:PORT" in caplog.text


@needs_sshd
@pytest.mark.slow
def test_the_operator_is_shown_the_key_of_the_configured_jump_host(
    jump: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["tunnel", "--learn-host", f"tunnel.ssh.via={jump.via}", f"tunnel.ssh.known_hosts={jump.known_hosts}"]
    assert main(argv) == 0
    assert "with this very key: SHA256:" in capsys.readouterr().out
    assert main(argv[:3]) == 2
    assert "no known_hosts file is named" in capsys.readouterr().err
