"""What systemd is told, at a socket of its kind, and that the daemon itself tells it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.main import main
from edge.notify import Notifier
from tests.edge.plant import plant, wait_for
from user_rl.trust import load_bundle


class Manager:
    """systemd's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.heard: list[str] = []

    def hear(self) -> list[str]:
        """Everything that was said so far."""
        while True:
            try:
                self.heard += self._socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"@tun-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "n")


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    made = Manager(address)
    yield made
    made.close()


def test_it_is_ready_alive_and_in_words(address: str, manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000"})
    notifier.ready()
    for now_s in (100.0, 100.5, 100.99, 101.0, 101.9, 102.0):
        notifier.turn(now_s, lambda: "two\nlines")
    notifier.turn(103.0, lambda: "running")
    notifier.stopping(20.0)
    alive = "WATCHDOG=1"
    assert manager.hear() == [
        "READY=1", alive, "STATUS=two lines", alive, alive, alive, "STATUS=running", "STOPPING=1",
        "WATCHDOG_USEC=30000000",
    ]  # fmt: skip


def test_a_watchdog_of_another_process_is_not_fed(address: str, manager: Manager) -> None:
    Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).turn(0.0, lambda: "well")
    assert manager.hear() == ["STATUS=well"]


def test_without_a_manager_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000000"}):
        notifier = Notifier(environ)
        notifier.ready()
        notifier.turn(0.0, lambda: "well")
        notifier.stopping(1.0)


@pytest.mark.slow
def test_the_daemon_tells_systemd_a_person_and_the_log_how_it_is_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manager = Manager(f"@tun-daemon-{os.getpid()}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@tun-daemon-{os.getpid()}")
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    with closing(manager), plant(tmp_path, log={"format": "json", "level": "DEBUG"}) as (cloud, daemon):
        status = ["status", "--home", str(daemon.home)]
        cloud.lease()
        wait_for(lambda: cloud.rows() > 50)
        wait_for(lambda: main([*status, "--json"]) == 0)
        shown = json.loads("{" + f"\n{capsys.readouterr().out}".rpartition("\n{\n")[2])
        assert shown["standing"]["state"] == "running"
        assert shown["standing"]["run"] == "run"
        assert shown["standing"]["lease_left_s"] > 800
        assert set(shown["standing"]["connections"].values()) == {"open"}
        assert shown["standing"]["rows"] >= 50
        assert set(shown["pids"]) == {"halt", "control", "link"}
        wait_for(lambda: main(status) == 0)  # a busy machine may write late
        assert "arm: running, run run" in capsys.readouterr().out
        wait_for(lambda: any(line.startswith("STATUS=running, episode") for line in manager.hear()))
        assert manager.hear()[0] == "READY=1"
        assert manager.hear().count("WATCHDOG=1") > 3
        cloud.fleet.release("run")
        wait_for(lambda: cloud.cell().lease == "free")
        assert daemon.stop() == 0
        assert manager.hear()[-2:] == ["STOPPING=1", f"WATCHDOG_USEC={(15 + 10 + 2 * 35 + 10) * 1000000}"]
        assert main(status) == 3
        assert "arm: does not run" in capsys.readouterr().out
    lines = [json.loads(line) for line in daemon.said.splitlines()]
    assert {line["process"] for line in lines} == {"control", "link"}
    assert {(line["cell"], line["run"]) for line in lines} == {("arm", ""), ("arm", "run")}
    bundle = load_bundle(tmp_path / "arm.bundle")
    for secret in (bundle.curve.secret, *bundle.key_pem.splitlines()[1:-1]):
        assert secret not in daemon.said
