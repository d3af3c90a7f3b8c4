"""user-rl tunnel as a person starts it: a real jump host, a real process, and what it says."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.main import main
from scripts.netlab.sshd import Sshd, free_port
from tests.edge.plant import ROOT, wait_for
from tests.user_rl.tunnels.rig import needs_sshd

pytestmark = [pytest.mark.slow, needs_sshd]


def told(path: Path) -> str:
    return (path / "said").read_text()


def argv_for(jump: Sshd, *more: str) -> list[str]:
    return ["tunnel", "--via", jump.via, "--known-hosts", str(jump.known_hosts), *more]


def test_a_port_of_the_jump_host_leads_here_until_the_command_is_stopped(tmp_path: Path) -> None:
    with Sshd(tmp_path / "jump") as jump, socket.create_server(("127.0.0.1", 0)) as here:
        number, port = free_port(), here.getsockname()[1]
        argv = argv_for(jump, "--key", str(jump.folder / "user"), f"{number}:127.0.0.1:{port}")
        said = (tmp_path / "said").open("w+b")
        child = subprocess.Popen([sys.executable, "-m", "cloud.main", *argv], cwd=ROOT, stdout=said, stderr=said)
        try:
            wait_for(lambda: f"port {number} for 127.0.0.1:{port}: open" in told(tmp_path))
            with socket.create_connection(("127.0.0.1", number), 10) as caller:
                guest = here.accept()[0]
                guest.settimeout(10)
                caller.sendall(b"hello")
                assert guest.recv(5) == b"hello"
                guest.close()
            child.send_signal(signal.SIGTERM)
            assert child.wait(30) == 0
        finally:
            child.kill()
            child.wait()
            said.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", number), 10)
        assert "Traceback" not in told(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sshd(tmp_path / "jump") as jump:
        assert main(argv_for(jump)) == 1
        assert "no port is named, allowed one or more PORT[:HOST:PORT]" in capsys.readouterr().err
        assert main(argv_for(jump, "7000")) == 1
        assert "allowed one of them; give a key file, or agent=true" in capsys.readouterr().err
        assert main(["tunnel", "--via", "jump", "--known-hosts", "x", "--learn-host"]) == 1
        assert "ssh.via = 'jump', allowed USER@HOST or USER@HOST:PORT" in capsys.readouterr().err


def test_the_host_is_known_already(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Sshd(tmp_path / "jump") as jump:
        assert main(argv_for(jump, "--learn-host")) == 0
        assert "with this very key: SHA256:" in capsys.readouterr().out
