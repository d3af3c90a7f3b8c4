"""`user-rl enroll`, `revoke`, `enrolled` and `audit`, on the machine whose home has the authority."""

import argparse
import json
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from cloud.audit import Line, files_of, lines_of, verify
from cloud.authority import Authority
from cloud.enrolments import Enrolment
from cloud.fleet.callers import read_seen
from cloud.fleet.server import SEEN
from user_rl.errors import ConfigError
from user_rl.trust import Kind, save_bundle


@dataclass(frozen=True)
class Said:
    """What a command prints, and its exit status."""

    text: str
    status: int = 0


def enroll(args: argparse.Namespace) -> Said:
    """Writes a join file."""
    if not args.hours > 0 or not args.valid_days > 0:
        raise ConfigError(
            f"--hours {args.hours:g} --valid-days {args.valid_days:g}, allowed more than 0; leave them out"
        )
    path = Path(args.out or f"{args.name}.join.json")
    bundle = _authority(args).invite(
        args.name, kind=args.kind, addresses=args.fleet, valid_days=args.valid_days, hours=args.hours
    )
    save_bundle(bundle, path)
    return Said(
        f"{path}: good once, for {args.hours:g} hours; copy it to the machine of {args.kind} {args.name}, then there: "
        f"user-rl-edge join {path.name}"
    )


def revoke(args: argparse.Namespace) -> Said:
    """Ends an enrolment."""
    authority = _authority(args)
    kind: Kind = args.kind or _kind_of(authority, args.name)
    authority.revoke(args.name, kind=kind)
    return Said(f"{kind}:{args.name} is let in nowhere any more")


def enrolled(args: argparse.Namespace) -> Said:
    """The list, as a table or as JSON."""
    seen = read_seen(_home(args) / "fleet" / SEEN)
    now_s = time.time()
    rows = [_row(identity, e, seen.get(identity), now_s) for identity, e in _authority(args).enrolled().items()]
    rows.sort(key=lambda row: (row["kind"], row["name"]))
    if args.json:
        return Said(json.dumps(rows, indent=2))
    lines = [f"{'kind':<10} {'name':<48} {'ends':<17} last seen by the fleet"]
    lines += [f"{r['kind']:<10} {r['name']:<48} {_ends(r, now_s):<17} {_when(r['seen_s'])}" for r in rows]
    return Said("\n".join(lines) if rows else "nobody is enrolled; see user-rl enroll")


def audit(args: argparse.Namespace) -> Said:
    """The newest lines, or whether all of them are as they were written."""
    if args.verify:
        wrong = verify(_home(args))
        text = json.dumps(wrong) if args.json else "\n".join(wrong) or "every line follows the one before it"
        return Said(text, 1 if wrong else 0)
    lines = [line for path in files_of(_home(args)) for line, _ in lines_of(path) if line is not None]
    newest = deque(lines, maxlen=max(0, args.last))
    if args.json:
        return Said("\n".join(msgspec.json.encode(line).decode() for line in newest))
    return Said("\n".join(map(_told, newest)) or "nothing has happened yet")


def _told(line: Line) -> str:
    return f"{_when(line.time_s)}  {line.who}  {line.what} {line.about}: {line.outcome}"


def _row(identity: str, enrolment: Enrolment, seen_s: float | None, now_s: float) -> dict[str, Any]:
    kind, _, name = identity.partition(":")
    ticket = enrolment.ticket
    state = "enrolled" if enrolment.lives(now_s) else "expired"
    if ticket is not None:
        state = "join file, used" if ticket.used else f"join file, of {ticket.kind}"
    return {
        "kind": kind, "name": name, "state": state, "issued_s": enrolment.issued_s, "expires_s": enrolment.expires_s,
        "seen_s": seen_s,
    }  # fmt: skip


def _ends(row: dict[str, Any], now_s: float) -> str:
    if row["expires_s"] is None:
        return "never"
    return _when(row["expires_s"]) + (" (ended)" if row["expires_s"] <= now_s else "")


def _when(wall_s: float | None) -> str:
    return "-" if wall_s is None else datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%MZ")


def _kind_of(authority: Authority, name: str) -> Kind:
    found = authority.enrolled()
    kinds: set[Kind] = {ticket.kind for i, e in found.items() if i == f"join:{name}" and (ticket := e.ticket)}
    known: tuple[Kind, ...] = ("edge", "run", "admin", "labeller", "inference")
    kinds |= {kind for kind in known if f"{kind}:{name}" in found}
    if len(kinds) != 1:
        have = " and ".join(sorted(kinds)) or "nothing"
        raise ConfigError(f"{name} is enrolled as {have}, allowed one kind; give --kind, or see user-rl enrolled")
    return kinds.pop()


def _authority(args: argparse.Namespace) -> Authority:
    return Authority(_home(args) / "authority")


def _home(args: argparse.Namespace) -> Path:
    return Path(args.home).expanduser()


ACTIONS = {"enroll": enroll, "revoke": revoke, "enrolled": enrolled, "audit": audit}
