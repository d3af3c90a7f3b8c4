"""How the daemon of a home stands, from what it writes and from what the kernel says, without the cloud."""

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge.fault import Fault, read_fault
from edge.orders import State
from edge.standing import Standing, read_standing
from user_rl.errors import ConfigError

NOT_RUNNING = 3
STALE_S = 5.0  # link writes every second
TICKS_HZ = os.sysconf("SC_CLK_TCK")
STUCK = (State.FAULT, State.NO_SENSOR, State.NO_SPACE)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was found."""

    home: str
    pids: dict[str, int] = field(default_factory=dict)  # empty: it does not run
    up_s: float = 0.0
    standing: Standing | None = None
    age_s: float = 0.0  # of `standing`
    fault: Fault | None = None
    troubles: tuple[str, ...] = ()

    @property
    def code(self) -> int:
        """The command's exit status."""
        return NOT_RUNNING if not self.pids else int(bool(self.troubles))


def look(home: Path, *, now_s: float, proc: Path = Path("/proc")) -> Look:
    """What is to be known of the daemon in `home`; raises ConfigError where none ever was."""
    if not (home / "lock").exists():
        raise ConfigError(f"--home {home}: no daemon ever ran there; give the home that its configuration names")
    pids, standing, fault = processes(home, proc), read_standing(home), read_fault(home)
    age_s = now_s - standing.written_s if standing else 0.0
    up_s = up_since(pids["halt"], proc) if pids else 0.0
    troubles = tuple(troubles_of(pids, standing, age_s, fault))
    return Look(
        home=str(home), pids=pids, up_s=up_s, standing=standing, age_s=age_s, fault=fault, troubles=troubles
    )  # fmt: skip


def troubles_of(pids: Mapping[str, int], standing: Standing | None, age_s: float, fault: Fault | None) -> list[str]:
    """What a person should look at, one line each."""
    found = [f"fault: {fault}"] if fault else []
    if not pids:
        return found
    found += [f"{name} is not running; the daemon's log says why" for name in ("control", "link") if name not in pids]
    if standing is None or not 0 <= age_s <= STALE_S:
        return [*found, "link does not say how it stands; see the daemon's log"]
    if standing.state in STUCK and not fault:
        found.append(f"{standing.state}: {standing.reason or 'no reason is said'}")
    if standing.blocked:
        found.append(f"the spool takes no rows: {standing.blocked}")
    if standing.connections.get("fleet") != "open":
        found.append(f"fleet: {standing.connections.get('fleet', 'not said')}")
    if standing.run and standing.lease_left_s > 0:
        shut = {name: state for name, state in standing.connections.items() if name != "fleet" and state != "open"}
        found += [f"{name}: {state}" for name, state in shut.items()]
    return found + [f"tunnel, {way}: {state}" for way, state in standing.tunnel.items() if state != "open"]


def processes(home: Path, proc: Path) -> dict[str, int]:
    """{process: pid} of a daemon that holds the home's lock; empty: none does."""
    with (home / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            return {}
        text = file.read().strip()
    if not text.isdecimal():
        return {}
    found = {"halt": int(text)}
    for pid in _children(int(text), proc):
        name = next((part for part in _argv(pid, proc) if part.startswith("edge.")), "")
        if name:
            found[name.removeprefix("edge.")] = pid
    return found


def up_since(pid: int, proc: Path) -> float:
    """Seconds that a process has lived; 0 where the kernel does not say."""
    try:
        began = int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]) / TICKS_HZ
        return max(0.0, float((proc / "uptime").read_text().split()[0]) - began)
    except (OSError, IndexError, ValueError):
        return 0.0


def _children(pid: int, proc: Path) -> list[int]:
    try:
        return [int(child) for child in (proc / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except OSError:
        return []


def _argv(pid: int, proc: Path) -> list[str]:
    try:
        return (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
