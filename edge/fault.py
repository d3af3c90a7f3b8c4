"""A latched fault, on disk beside the spool: no process clears it, only a person, by `user-rl-edge clear`.

While `fault.json` is there the robot is not opened. What was cleared, when and by whom stays in `faults.jsonl`.
"""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from user_rl.errors import ConfigError
from user_rl.files import write_atomically

FAULT, CLEARED = "fault.json", "faults.jsonl"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a robot stands still, and since when (UTC, ISO 8601)."""

    robot: str
    reason: str
    since: str

    def __str__(self) -> str:
        return f"{self.reason} (since {self.since}; then user-rl-edge clear)"


def latch(root: Path, robot: str, reason: str) -> Fault:
    """Writes the fault down, durably; an older one stays, for it is the cause. Raises StorageError."""
    found = read_fault(root)
    if found is None:
        found = Fault(robot=robot, reason=reason, since=_now())
        write_atomically(root / FAULT, msgspec.json.encode(found))
    return found


def read_fault(root: Path) -> Fault | None:
    """The fault that holds the robot of this edge; None: there is none."""
    path = root / FAULT
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fault)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:  # what cannot be read was written for a reason
        return Fault(robot="", reason=f"{path} cannot be read: {error}", since="an unknown time")


def clear(root: Path) -> Fault:
    """What a person does who has looked at the robot: removes the fault, and writes down that it was. Returns it."""
    fault = read_fault(root)
    if fault is None:
        raise ConfigError(f"{root}: no fault is latched there; give the home of the edge that has one")
    record = msgspec.to_builtins(fault) | {"cleared": _now(), "by": getpass.getuser()}
    with (root / CLEARED).open("ab") as file:
        file.write(msgspec.json.encode(record) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    (root / FAULT).unlink()
    return fault


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
