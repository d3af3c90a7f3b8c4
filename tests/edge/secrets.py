"""Looks for secrets where none may be: in files, in environments, in arguments of processes."""

import json
from collections.abc import Iterable
from pathlib import Path

from user_rl.trust import Bundle


def secrets_of(*bundles: Bundle) -> set[bytes]:
    """What must not be found: CURVE secret keys, and each line of the body of a secret TLS key."""
    found = {bundle.curve.secret for bundle in bundles}
    for bundle in bundles:
        found |= set(bundle.key_pem.splitlines()[1:-1])
    return {secret.encode() for secret in found}


def secrets_of_authority(home: Path) -> set[bytes]:
    """Those of a home's authority itself."""
    root = json.loads((home / "authority/authority.json").read_text())
    bodies = [line for name in ("ca_key_pem", "key_pem") for line in root[name].splitlines()[1:-1]]
    return {secret.encode() for secret in (root["curve"]["secret"], *bodies)}


def files_with(secrets: Iterable[bytes], *folders: Path) -> set[Path]:
    """Every file below `folders` that holds one of them, also as JSON has it."""
    wanted = [*secrets, *(json.dumps(secret.decode()).strip('"').encode() for secret in secrets)]
    found = set()
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found |= {path for secret in wanted if secret in data}
    return found


def processes_with(secrets: Iterable[bytes], pids: Iterable[int]) -> set[str]:
    """Every environment and every list of arguments of these processes that holds one of them."""
    wanted, found = list(secrets), set()
    for pid in pids:
        for name in ("environ", "cmdline"):
            data = Path(f"/proc/{pid}/{name}").read_bytes()
            found |= {f"{name} of {pid}" for secret in wanted if secret in data}
    return found


def tree_of(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found
