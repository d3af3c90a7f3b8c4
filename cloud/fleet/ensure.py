"""Finds the fleet of a home folder, or starts one that outlives whoever asked."""

import os
import sys
from pathlib import Path

from cloud.authority import Authority
from cloud.fleet.server import read_address
from user_rl.clock import Clock, SystemClock
from user_rl.errors import Unauthorized, Unreachable
from user_rl.files import FileLock
from user_rl.fleet import FleetClient
from user_rl.trust import Bundle, load_bundle, save_bundle

POLL_S = 0.1
LAST_LOOKS_S = 3.0
ANSWER_S = 2.0  # a fleet on this machine answers within this


def ensure_fleet(
    home: Path, *, listen: str = "127.0.0.1:0", idle_exit_s: float = 120.0, deadline_s: float = 30.0,
    clock: Clock | None = None,
) -> str:  # fmt: skip
    """The address of the home's fleet, which answers; starts `python -m cloud.fleet` when none does.

    Launches that race end with one fleet. Raises Unreachable naming the log when it does not answer in time.
    """
    clock = clock or SystemClock()
    until_s = clock.now_s() + deadline_s
    lock = FileLock(home / "fleet" / "ensure.lock", wait_s=deadline_s, clock=clock)
    try:
        admin = admin_bundle(home)
        if (address := _answering(home, admin)) is not None:
            return address
        pid, started = _start(home, listen=listen, idle_exit_s=idle_exit_s), True
        while clock.now_s() < until_s:
            if (address := _answering(home, admin)) is not None:
                return address
            if started and _ended(pid):  # it may have met another fleet that is about to answer
                started, until_s = False, min(until_s, clock.now_s() + LAST_LOOKS_S)
            clock.sleep_until(clock.now_s() + POLL_S)
        raise Unreachable(f"the fleet of {home} does not answer: {_last_line(home)}")
    finally:
        lock.release()


def admin_bundle(home: Path) -> Bundle:
    """This machine's own bundle for its fleet, HOME/admin.json; made when it is not there or not enrolled any more."""
    path, authority = home / "admin.json", Authority(home / "authority")
    if path.exists():
        bundle = load_bundle(path)
        if authority.knows(bundle.identity, bundle.cert_pem.encode()):
            return bundle
    bundle = authority.mint("local", kind="admin", fleet_address="")
    save_bundle(bundle, path)
    return bundle


def _answering(home: Path, admin: Bundle) -> str | None:
    said = read_address(home)
    if said is None:
        return None
    try:
        with FleetClient(admin.at(said.address), deadline_s=ANSWER_S) as client:
            client.list()
    except (Unreachable, Unauthorized):
        return None
    return said.address


def _start(home: Path, *, listen: str, idle_exit_s: float) -> int:
    options = ["--home", str(home), "--listen", listen, "--idle-exit", str(idle_exit_s)]
    argv = [sys.executable, "-m", "cloud.fleet", *options]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(_log(home)), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(sys.executable, argv, os.environ, file_actions=files, setsid=True)


def _ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG)[0] == pid


def _log(home: Path) -> Path:
    return home / "fleet" / "fleet.log"


def _last_line(home: Path) -> str:
    lines = _log(home).read_text(errors="replace").splitlines()
    return f"{lines[-1] if lines else 'it said nothing'}; see {_log(home)}"
