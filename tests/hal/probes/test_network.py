"""Against real sockets on the loopback."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hal.probes import network
from hal.probes.network import addresses_in, probe
from user_rl.errors import HardwareError


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def looked(address: str) -> dict[str, Any]:
    [robot] = probe({"name": "left", "address": address, "timeout_s": 5.0})
    return robot  # type: ignore[no-any-return]


def test_a_controller_that_listens_is_there(listening: int) -> None:
    robot = looked(f"127.0.0.1:{listening}")
    assert (robot["id"], robot["kind"], robot["model"]) == ("left", "robot", f"port {listening}")
    assert (robot["address"], robot["health"]["condition"]) == (f"127.0.0.1:{listening}", "ok")


def test_the_port_says_which_make_it_is(monkeypatch: pytest.MonkeyPatch, listening: int, closed: int) -> None:
    monkeypatch.setattr(network, "PORTS", {closed: "UR (RTDE)", listening: "xArm"})
    robot = looked("127.0.0.1")
    assert (robot["model"], robot["address"]) == ("xArm", f"127.0.0.1:{listening}")


def test_a_machine_on_which_nothing_listens_is_told_from_one_that_is_not_there(closed: int) -> None:
    health = looked(f"127.0.0.1:{closed}")["health"]
    assert health["condition"] == "broken"
    assert health["reason"] == (
        f"the machine answers and nothing listens on {closed}; is the controller on, and its remote control?"
    )


def test_a_machine_that_is_silent_costs_its_time_and_says_where_to_look() -> None:
    with socket.socket() as full:  # its queue is full: the kernel drops what comes, as a dead address would
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        [robot] = probe({"name": "left", "address": f"127.0.0.1:{port}", "timeout_s": 0.2})
        for one in waiting:
            one.close()
    assert robot["health"]["reason"] == (
        f"127.0.0.1, ports {port}: no answer within 0.2 s; look at power, cable, address and network mask"
    )


def test_something_that_answers_as_every_make_is_no_robot(monkeypatch: pytest.MonkeyPatch, listening: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(network, "PORTS", {listening: "xArm", port: "Franka (FCI)"})
        monkeypatch.setattr(network, "_ARMS", ({listening}, {port}))
        health = looked("127.0.0.1")["health"]
    assert health["condition"] == "degraded"
    assert health["reason"].startswith("answers as arms of several makes at once")


def test_an_address_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(HardwareError, match=r"ROBOT_IP = 10.0.0.2:rtde, allowed HOST or HOST:PORT; change it"):
        looked("10.0.0.2:rtde")


def test_robots_are_named_in_the_environment() -> None:
    environment = {"ROBOT_IP": "10.0.0.2", "ROBOT_IP_LEFT": "10.0.0.3:502", "ROBOT_IP_OFF": "", "ROBOT_IPX": "10.0.0.4"}
    assert addresses_in(environment) == {"robot": "10.0.0.2", "left": "10.0.0.3:502"}
