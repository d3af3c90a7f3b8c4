"""`user-rl resources`: the fleet's inventory as a table, for programs, or live; and a person's quarantine."""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cloud.disk import write_bytes
from cloud.fleet.ensure import admin_bundle
from cloud.fleet.server import read_address
from user_rl.clock import Clock, SystemClock
from user_rl.errors import Unreachable
from user_rl.fleet import FleetClient, Resource, State
from user_rl.trust import Bundle, load_bundle

WATCH_EVERY_S = 1.0
WIDE = 110  # columns from which on there is room for what a resource has
STYLES: dict[State, str] = {  # the worst first, as they are listed
    "quarantined": "bold red",
    "lost": "red",
    "degraded": "yellow",
    "leased": "cyan",
    "free": "green",
}
SIGNS: dict[State, str] = {"quarantined": "✖", "lost": "○", "degraded": "▲", "leased": "●", "free": "●"}


def run_resources(args: argparse.Namespace, console: Console) -> int:
    """The command that `args` name."""
    with FleetClient(bundle_of(args.bundle, Path(args.home).expanduser())) as client:
        return ACTIONS[args.action](client, args, console)


def bundle_of(bundle: Path | None, home: Path) -> Bundle:
    """The bundle in a file, or this machine's own for the fleet of `home`."""
    if bundle is not None:
        return load_bundle(bundle.expanduser())
    said = read_address(home)
    if said is None:
        raise Unreachable(f"no fleet has ever run in {home}; start one with user-rl fleet, or give --home or --bundle")
    return admin_bundle(home).at(said.address)


def show(client: FleetClient, args: argparse.Namespace, console: Console) -> int:
    """The inventory, once or until interrupted."""
    if args.watch:
        return watch(client, console, as_json=args.json, clock=SystemClock())
    listed = client.list()
    if args.json:
        console.out(json.dumps([asdict(resource) for resource in listed], indent=2), highlight=False)
    else:
        console.print(table(listed, width=console.width))
    return 0


def watch(client: FleetClient, console: Console, *, as_json: bool, clock: Clock, most: int | None = None) -> int:
    """Looks again every second, `most` times: on a terminal in one place, as JSON one line for each look."""
    with Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else nullcontext() as live:
        for listed, trouble in _looks(client, clock, most):
            view = Group(table(listed, width=console.width), Text(trouble, style="red"))
            if as_json:
                console.out(json.dumps([asdict(resource) for resource in listed]), highlight=False)
            elif live is not None:
                live.update(view, refresh=True)
            else:
                console.print(view)
    return 0


def _looks(client: FleetClient, clock: Clock, most: int | None) -> Iterator[tuple[list[Resource], str]]:
    """What is listed, and why it is not newer."""
    listed: list[Resource] = []
    trouble, count = "", 0
    while True:
        try:
            listed, trouble = client.list(), ""
        except Unreachable as error:
            trouble = str(error)
        yield listed, trouble
        count += 1
        if count == most:
            return
        clock.sleep_until(clock.now_s() + WATCH_EVERY_S)


def quarantine(client: FleetClient, args: argparse.Namespace, console: Console) -> int:
    """A person takes things out of use."""
    for resource in args.id:
        client.quarantine(resource, args.reason)
        back = f"user-rl resources admit {resource}"
        console.print(f"{resource} is quarantined; bring it back with {back}", markup=False, highlight=False)
    return 0


def admit(client: FleetClient, args: argparse.Namespace, console: Console) -> int:
    """A person brings things back."""
    for resource in args.id:
        client.admit(resource)
        console.print(f"{resource} is admitted again", markup=False, highlight=False)
    return 0


def table(listed: Sequence[Resource], *, width: int) -> RenderableType:
    """What a person reads: sums, then what needs a look before what is well. A long id is folded, never cut."""
    if not listed:
        return Text("no robot has joined this fleet and no accelerator was reported; see user-rl enroll")
    wide = width >= WIDE
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown.add_column("resource", overflow="fold")
    for name in ("state", "for", "site", "model", *(["has"] if wide else [])):
        shown.add_column(name, no_wrap=True, justify="right" if name == "for" else "left")
    shown.add_column("leased to, or why not", overflow="fold", ratio=1)
    order = list(STYLES)
    for r in sorted(listed, key=lambda r: (r.kind != "cell", order.index(r.state), r.id)):
        state = Text(f"{SIGNS[r.state]} {r.state}", style=STYLES[r.state])
        has = [_has(r)] if wide else []
        shown.add_row(Text(r.id, style="bold"), state, _age(r.since_s), r.site or "-", r.model, *has, _note(r))
    return Group(_sums(listed), Text(), shown)


def _sums(listed: Sequence[Resource]) -> Text:
    parts = []
    for kind, name in (("cell", "robots"), ("accelerator", "accelerators")):
        found = Counter(r.state for r in listed if r.kind == kind)
        if found:
            words = [Text(f"{found[state]} {state}", style=STYLES[state]) for state in reversed(STYLES) if found[state]]
            head = Text(f"{found.total()} {name if found.total() > 1 else name[:-1]}", style="bold")
            parts.append(Text("  ").join([head, *words]))
    return Text("\n").join(parts)


def _note(r: Resource) -> Text:
    """Who has it, and why it is as it is; of one that is well, what its edge says of the present step."""
    run = f"{r.run} ({r.role})" if r.kind == "accelerator" else r.run
    holder = {"free": "", "held": run, "releasing": f"was {run}'s"}[r.lease]
    return Text(": ").join(
        Text(words, style) for words, style in ((holder, "cyan"), (r.reason or r.status.reason, "")) if words
    )


def _has(r: Resource) -> Text:
    """Joints, rate and cameras of a cell; memory and load of an accelerator."""
    if r.accelerator is not None:
        return Text(f"{write_bytes(r.accelerator.memory_bytes)}, {100 * r.accelerator.utilisation:.0f} %", style="dim")
    if r.card is None:
        return Text()
    dof = f"{r.card.dof} dof" if r.card.dof else ""
    cameras = f"{len(r.card.cameras)} cam" if r.card.cameras else ""
    parts = (dof, f"{r.card.rate_hz:g} Hz", cameras, "teleop" if r.card.teleop else "")
    return Text(", ".join(filter(None, parts)), style="dim")


def _age(age_s: float) -> str:
    for unit, size_s in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= 2 * size_s:
            return f"{age_s / size_s:.0f} {unit}"
    return f"{age_s:.0f} s"


ACTIONS = {"show": show, "quarantine": quarantine, "admit": admit}
