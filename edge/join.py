"""Joining a fleet: `user-rl-edge join FILE` makes this machine's keys, has them signed, and writes its bundle.

The keys are written, with mode 0600, before the fleet is asked, so that whatever dies in between, the same command goes
on with the same keys, and the join file, which is good for one pair of keys, is not lost. Secret keys stay here.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from user_rl.errors import ConfigError
from user_rl.files import write_atomically
from user_rl.fleet import FleetClient
from user_rl.trust import Bundle, CurveKeys, load_bundle, new_curve_keys, read_private, save_bundle

DEADLINE_S = 20.0


class _Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key_pem: str
    curve: CurveKeys

    def __repr__(self) -> str:
        return f"_Keys({self.curve!r})"


def add_join(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """`join FILE [--out BUNDLE]`."""
    parser = commands.add_parser("join", help="join a fleet, with the join file that user-rl enroll has made")
    parser.add_argument("file", type=Path, metavar="FILE", help="NAME.join.json; it is good for once")
    parser.add_argument("--out", type=Path, metavar="BUNDLE", help="this machine's bundle (default: NAME.bundle.json)")


def run_join(args: argparse.Namespace) -> str:
    """Joins; what to tell the person."""
    invitation = load_bundle(args.file.expanduser())
    out: Path = (args.out or Path(f"{invitation.name}.bundle.json")).expanduser()
    bundle = join(invitation, out)
    until = time.strftime("%Y-%m-%d", time.gmtime(bundle.expires_s))
    return (
        f"{out}: {bundle.identity} until {until}, renewed by itself; "
        f"next: user-rl-edge run name={bundle.name} bundle={out} home=~/edge ..."
    )


def join(invitation: Bundle, out: Path, *, wall: Callable[[], float] = time.time) -> Bundle:
    """The bundle of this machine, also written to `out`; raises ConfigError, Unreachable or Unauthorized."""
    from user_rl.joining import certified_name, make_request

    _check(invitation, out, wall())
    keys_path = out.with_name(f".{out.name}.keys")
    keys = _keys(keys_path)
    with FleetClient(invitation, deadline_s=DEADLINE_S) as fleet:
        reply = fleet.join(make_request(invitation.identity, keys.key_pem, keys.curve.public))
    kind, name = certified_name(reply.cert_pem)
    bundle = msgspec.structs.replace(
        invitation, kind=kind, name=name, cert_pem=reply.cert_pem, key_pem=keys.key_pem, curve=keys.curve,
        issued_s=wall(), expires_s=reply.expires_s,
    )  # fmt: skip
    save_bundle(bundle, out)
    keys_path.unlink()
    return bundle


def _check(invitation: Bundle, out: Path, now_s: float) -> None:
    if invitation.kind != "join":
        raise ConfigError(f"the file is the bundle of {invitation.identity}, allowed a join file; run with it as it is")
    if out.exists():
        raise ConfigError(f"{out} is there already, allowed a new file; remove it first, or give another with --out")
    if invitation.expires_s is not None and now_s >= invitation.expires_s:
        late_h = (now_s - invitation.expires_s) / 3600
        raise ConfigError(
            f"the join file of {invitation.name} ended {late_h:.1f} h ago; make a new one with "
            f"user-rl enroll {invitation.name}, or set this machine's clock"
        )


def _keys(path: Path) -> _Keys:
    """The keys that an attempt before has left, or new ones, on disk."""
    from user_rl.joining import new_tls_key

    if path.exists():
        try:
            return msgspec.json.decode(read_private(path), type=_Keys)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}: {error}; remove it and join with a new join file") from error
    keys = _Keys(new_tls_key(), new_curve_keys())
    write_atomically(path, msgspec.json.encode(keys), mode=0o600)
    return keys
