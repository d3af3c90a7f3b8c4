"""The gripper's text server as a product, seen by a plain socket."""

import socket
import subprocess
import sys

import pytest

from hal.emulators.robotiq import ACTIVATION_S, Gripper, robotiq_emulator


def test_the_server_answers_line_by_line() -> None:
    with robotiq_emulator() as emulator, socket.create_connection(("127.0.0.1", emulator.port), timeout=5) as link:
        talk = link.makefile("rw")
        said = []
        for line in ("GET STA", "SET SPE 100 FOR 50", "GET SPE", "SET XYZ 1", "SET POS 256", "SET POS", "GET", "hello"):
            talk.write(line + "\n")
            talk.flush()
            said.append(talk.readline().strip())
        talk.close()
    assert said == ["STA 3", "ack", "SPE 100", "?", "?", "?", "?", "?"]


def test_fingers_move_only_when_active_and_told_to_go() -> None:
    gripper = Gripper()
    gripper.set("POS", 200)
    gripper.pass_time(1)
    assert gripper.position == 0
    gripper.set("GTO", 1)
    gripper.set("SPE", 51)
    gripper.pass_time(1)
    assert gripper.position == pytest.approx(70)
    assert gripper.get("OBJ") == 0
    gripper.pass_time(10)
    assert (gripper.position, gripper.get("OBJ")) == (200, 3)


def test_a_reset_and_an_activation_take_their_time() -> None:
    gripper = Gripper()
    gripper.set("ACT", 0)
    assert gripper.get("STA") == 0
    gripper.set("ACT", 1)
    gripper.pass_time(ACTIVATION_S / 2)
    assert gripper.get("STA") == 1
    gripper.pass_time(ACTIVATION_S / 2)
    assert gripper.get("STA") == 3


@pytest.mark.slow
def test_it_runs_by_itself() -> None:
    process = subprocess.Popen([sys.executable, "-m", "hal.emulators.robotiq"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().split(":")
        with socket.create_connection((host, int(port)), timeout=5) as link:
            link.sendall(b"GET STA\n")
            assert link.recv(20) == b"STA 3\n"
    finally:
        process.terminate()
        process.communicate(timeout=30)
