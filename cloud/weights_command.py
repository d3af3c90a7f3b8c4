"""`user-rl weights`: which versions a run has, going back to one of them, and going on."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cloud.rollback import listed, release, roll_back
from cloud.run import find_run
from cloud.weights import WeightStore


def run_weights(args: argparse.Namespace, console: Console) -> int:
    """The command that `args` name."""
    folder = find_run(Path(args.runs), args.run)
    store = WeightStore(folder.weights)
    if args.action == "rollback":
        version = roll_back(store, args.number)
        said = f"version {version.number}, the content of {args.number}, is held: user-rl weights release {folder.name}"
    elif args.action == "release":
        newest = release(store)
        said = f"nothing is held; {f'version {newest.number} is offered' if newest else 'there is no version'}"
    else:
        said = ""
    versions = listed(store)
    if args.json:
        console.out(json.dumps(versions, indent=2), highlight=False)
    else:
        console.print(said or table(versions))
    return 0


def table(versions: Sequence[dict[str, object]]) -> Table:
    """One line for each version, the offered one marked."""
    made = Table(box=None, header_style="bold")
    for heading in ("VERSION", "PARENT", "KIND", "UPDATES", "BYTES", "SHA-256", ""):
        made.add_column(heading, justify="right" if heading in ("VERSION", "PARENT", "UPDATES", "BYTES") else "left")
    for v in versions:
        mark = f"held, the content of {v['content']}" if v["held"] else "offered" if v["offered"] else ""
        kind = "anchor" if v["anchor"] else "patch"
        cells = (v["number"], v["parent"] or "-", kind, v["updates"], v["bytes"], str(v["sha256"])[:16], mark)
        style = "bold yellow" if v["held"] else "green" if v["offered"] else None
        made.add_row(*map(str, cells), style=style)
    return made
