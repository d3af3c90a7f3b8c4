"""user-rl-edge unit: the daemon as a systemd service, as text.

It restarts always but after a mistake in the configuration, may use FIFO scheduling, is watched by systemd's watchdog
through halt, is the last to be killed when memory runs out, and may write nothing but its home. Devices stay reachable.
"""

import getpass
import grp
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.config import HALT_COMMAND_S, EdgeConfig
from edge.process import FIFO_PRIORITY, Exit
from user_rl.errors import ConfigError, StorageError
from user_rl.files import write_atomically

FOLDER = Path("/etc/systemd/system")
MARGIN_S = 5.0
WATCHDOG_S = 3 * HALT_COMMAND_S  # halt is busy for one halt command at most
DEVICE_GROUPS = ("dialout", "plugdev", "video", "input", "realtime")  # serial ports, USB, cameras, spacemice, FIFO

TEXT = """\
[Unit]
Description=USER-RL edge daemon of {name}
After=network.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={home}
User={user}
{groups}Restart=always
RestartSec=2
RestartPreventExitStatus={config_exit}
TimeoutStartSec=60
TimeoutStopSec={stop_s:.0f}
WatchdogSec={watchdog_s:.0f}
KillMode=mixed
LimitRTPRIO={rtprio}
LimitMEMLOCK=infinity
OOMScoreAdjust=-800
UMask=0077

NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ReadWritePaths={home}
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_CAN
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit file."""

    name: str
    text: str
    home: Path
    user: str


def make_unit(config: EdgeConfig, file: Path, *, user: str = "") -> Unit:
    """The service of the daemon whose configuration is `file`, run by `user` (empty: by whom this is)."""
    user = user or getpass.getuser()
    home = _home(config, user)
    command = [*_program(), "run", "--config", str(file.resolve())]
    known = {group.gr_name for group in grp.getgrall()}
    groups = " ".join(group for group in DEVICE_GROUPS if group in known)
    text = TEXT.format(
        name=_plain(config.name), command=" ".join(map(_plain, command)), home=_plain(str(home)),
        user=_plain(user), groups=f"SupplementaryGroups={groups}\n" if groups else "",
        config_exit=int(Exit.CONFIG), stop_s=config.end_s + MARGIN_S, watchdog_s=WATCHDOG_S, rtprio=FIFO_PRIORITY,
    )  # fmt: skip
    return Unit(name=f"user-rl-edge-{config.name}.service", text=text, home=home, user=user)


def install(unit: Unit, *, ask: Callable[[str], str] | None, folder: Path = FOLDER) -> Path | None:
    """Writes the unit where systemd looks for it, if the person says so (no `ask`: it has); root only."""
    path = folder / unit.name
    if os.getuid() != 0:
        raise ConfigError(f"{path} is written by root, this is {getpass.getuser()}; use sudo, or print it with unit")
    if ask is not None:
        there = " (it is there, and is replaced)" if path.exists() else ""
        if ask(f"Write {path}{there}? [y/N] ").strip().lower() not in ("y", "yes"):
            return None
    try:
        unit.home.mkdir(parents=True, exist_ok=True)  # systemd refuses a ReadWritePaths that is not there
        shutil.chown(unit.home, unit.user)
        write_atomically(path, unit.text.encode())
    except (OSError, LookupError) as error:
        raise StorageError(f"{path} cannot be installed: {error}; see the folder and the user") from error
    return path


def _home(config: EdgeConfig, user: str) -> Path:
    """The home as `user` means it; a service has no folder from which a relative path could count."""
    home = Path(os.path.expanduser(f"~{user}{config.home[1:]}" if config.home.startswith("~/") else config.home))
    for key, path in (("home", home), ("bundle", Path(config.bundle))):
        if not path.is_absolute() and not str(path).startswith("~/"):
            raise ConfigError(f"{key} = {path}, allowed a path from / or ~/ in a service; give all of it")
    return home


def _program() -> list[str]:
    script = Path(sys.executable).parent / "user-rl-edge"
    return [str(script)] if script.exists() else [sys.executable, "-m", "edge.main"]


def _plain(text: str) -> str:
    """What systemd would read as more than the text itself is refused; its % is doubled."""
    if any(character.isspace() or character in "\"'\\$;" for character in text):
        raise ConfigError(f"{text!r} cannot stand in a unit file, allowed no space, quote, \\, $ or ;; rename it")
    return text.replace("%", "%%")
