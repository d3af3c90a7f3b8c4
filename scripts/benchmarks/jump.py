"""jump: a real sshd as an ordinary process in any network, with a host key and one authorised key of its own."""

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
PORT = 2222
PATIENCE_S = 20.0
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
MaxStartups 100
"""


class Jump:
    """The server at `host`; `prefix` starts commands in its network."""

    def __init__(self, folder: Path, host: str, prefix: Sequence[str] = (), port: int = PORT) -> None:
        """Makes the keys and writes known_hosts; raises SystemExit where OpenSSH is not installed."""
        if SSHD is None or shutil.which("ssh-keygen") is None:
            raise SystemExit("no OpenSSH server here; install openssh-server")
        folder.mkdir(parents=True)
        self._folder, self._host, self._port, self._prefix = folder, host, port, list(prefix)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        kind, key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[{host}]:{port} {kind} {key}\n")
        (folder / "config").write_text(CONFIG.format(host=host, port=port, folder=folder))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tunnel(self) -> dict[str, Any]:
        """What the robot's configuration says of it."""
        return {
            "kind": "ssh",
            "ssh": {
                "via": f"{getpass.getuser()}@{self._host}:{self._port}", "key_file": str(self._folder / "user"),
                "known_hosts": str(self._folder / "known_hosts"),
            },
        }  # fmt: skip

    def start(self) -> None:
        """Returns when it listens."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server of root's leaves its privileges
        argv = [*self._prefix, str(SSHD), "-D", "-e", "-f", str(self._folder / "config")]
        with (self._folder / "log").open("ab") as out:
            self._process = subprocess.Popen(argv, stdout=out, stderr=out, start_new_session=True)
        until_s = time.monotonic() + PATIENCE_S
        while "Server listening" not in self.said:
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"sshd does not listen on {self._host}:{self._port}\n{self.said}")
            time.sleep(0.02)

    @property
    def said(self) -> str:
        """All that it wrote."""
        return (self._folder / "log").read_text()

    def kill_connections(self) -> int:
        """kill -9 of every process that serves a connection; how many there were."""
        if self._process is None:
            return 0
        serving = psutil.Process(self._process.pid).children(recursive=True)
        for process in serving:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(serving)

    def close(self) -> None:
        """Ends the server and its connections; safe to call twice."""
        if self._process is not None:
            self._process.terminate()  # it takes no more of them
            self.kill_connections()
            self._process.wait()
            self._process = None
