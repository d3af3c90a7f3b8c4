import socket

import pytest

from hal.address import check_answers, robot_address
from user_rl.errors import ConfigError, RobotUnreachable

HOST = "127.81.0.1"


def test_the_configured_address_holds_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBOT_IP", "10.0.0.1")
    assert robot_address("10.0.0.2", "arm") == "10.0.0.2"
    assert robot_address("", "arm") == "10.0.0.1"
    monkeypatch.delenv("ROBOT_IP")
    with pytest.raises(ConfigError) as caught:
        robot_address("", "arm")
    assert str(caught.value) == (
        "robot.host = '', allowed the address of the arm; give robot.host=ADDRESS or set ROBOT_IP"
    )


def test_a_listener_is_enough_unless_it_is_asked_something() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        check_answers(HOST, port, "arm", timeout_s=5.0)
        with pytest.raises(RobotUnreachable, match=f"no arm at {HOST}, port {port}: timed out; look at its power"):
            check_answers(HOST, port, "arm", timeout_s=0.05, question=b"?")


def test_nobody_and_a_name_that_does_not_resolve_are_unreachable() -> None:
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    for host in (HOST, "no.such.host.invalid"):
        with pytest.raises(RobotUnreachable, match=rf"no arm at {host}, port {port}: .*; look at its power, the cable"):
            check_answers(host, port, "arm", timeout_s=5.0)
