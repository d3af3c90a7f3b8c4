"""Sshd: a real OpenSSH server as an ordinary process in any network, with a host key and a user's key of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
PATIENCE_S = 30.0
CONFIG = """
ListenAddress {host}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
GatewayPorts no
MaxStartups 100
LogLevel VERBOSE
"""


def no_sshd() -> str:
    """Why there can be no server here; empty: there can."""
    absent = SSHD is None or shutil.which("ssh-keygen") is None
    return "no OpenSSH server here: install openssh-server" if absent else ""


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_key(path: Path, *kind: str, passphrase: str = "") -> None:
    """A pair, `path` and `path`.pub; of ed25519 where no other `kind` is said."""
    argv = ["ssh-keygen", "-q", *(kind or ("-t", "ed25519")), "-N", passphrase, "-f", str(path)]
    subprocess.run(argv, check=True)


class Sshd:
    """One server with a folder of its own. A context manager: it never outlives its block."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0, prefix: Sequence[str] = ()) -> None:
        """Where it will listen; `prefix` starts commands in its network. Raises SystemExit without OpenSSH."""
        if why := no_sshd():
            raise SystemExit(why)
        folder.mkdir(parents=True)
        self.folder, self.host, self.port, self._prefix = folder, host, port or free_port(), list(prefix)
        for name in ("host", "user"):
            make_key(folder / name)
        self.allow("user")
        self.known_hosts = folder / "known_hosts"
        kind, key = (folder / "host.pub").read_text().split()[:2]
        self.known_hosts.write_text(f"[{host}]:{self.port} {kind} {key}\n")
        (folder / "config").write_text(CONFIG.format(host=host, port=self.port, folder=folder))
        self.process: subprocess.Popen[bytes] | None = None
        self._before = 0  # what earlier lives wrote

    @property
    def via(self) -> str:
        """USER@HOST:PORT."""
        return f"{getpass.getuser()}@{self.host}:{self.port}"

    @property
    def tunnel(self) -> dict[str, Any]:
        """What a robot's configuration says of it."""
        ssh = {"via": self.via, "key_file": str(self.folder / "user"), "known_hosts": str(self.known_hosts)}
        return {"kind": "ssh", "ssh": ssh}

    @property
    def said(self) -> str:
        """All that it wrote."""
        log = self.folder / "log"
        return log.read_text() if log.exists() else ""

    def allow(self, name: str) -> None:
        """Lets the key NAME.pub of its folder in, and no other."""
        shutil.copy(self.folder / f"{name}.pub", self.folder / "authorized_keys")

    def start(self) -> None:
        """Returns when it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's leaves its privileges
        until_s = time.monotonic() + PATIENCE_S
        while self.process is None or "Server listening" not in self.said[self._before :]:
            if time.monotonic() > until_s:
                self.kill()
                raise RuntimeError(f"sshd does not listen on {self.host}:{self.port}\n{self.said}")
            if self.process is None or self.process.poll() is not None:  # also while another's socket has its port
                self._spawn()
            time.sleep(0.02)

    def _spawn(self) -> None:
        self._before = len(self.said)
        argv = [*self._prefix, str(SSHD), "-D", "-e", "-f", str(self.folder / "config")]
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=out, start_new_session=True)

    def signal(self, number: signal.Signals) -> None:
        """To the server and every process that serves a connection."""
        assert self.process is not None
        for process in [*self._serving(), psutil.Process(self.process.pid)]:
            with suppress(psutil.NoSuchProcess):  # a connection may have ended meanwhile
                process.send_signal(number)

    def kill_connections(self) -> int:
        """kill -9 of every process that serves a connection; how many there were."""
        serving = self._serving()
        for process in serving:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(serving)

    def kill(self) -> None:
        """Ends all of it at once; safe to call twice."""
        if self.process is not None:
            if self.process.poll() is None:
                self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _serving(self) -> list[psutil.Process]:
        """The deepest first, so that none is left without its parent's being known."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)[::-1] if self.process else []
        except psutil.NoSuchProcess:
            return []

    def __enter__(self) -> "Sshd":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
