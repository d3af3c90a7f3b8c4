"""`user-rl estop`: robots are halted through the fleet, and each is said to be halted or not confirmed.

It asks nothing and waits for nothing before the order is given. Exit status 1 when any robot is not confirmed.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cloud.resources import bundle_of
from user_rl.emergency import EmergencyClient, Stopped
from user_rl.errors import UserRlError

BUTTON = "use its emergency stop button"


def run_estop(args: argparse.Namespace, console: Console) -> int:
    """The command; returns its exit status."""
    stopped: list[Stopped] = []
    trouble = ""
    try:
        with EmergencyClient(bundle_of(args.bundle, Path(args.home).expanduser())) as client:
            for one in client.stop_robots(args.robot, args.reason, wait_s=args.wait_s):
                stopped.append(one)
                if not args.json:
                    console.print(line(one))
    except UserRlError as error:
        trouble = f"NOTHING MORE IS CONFIRMED: use the emergency stop buttons ({error})"
    if args.json:
        console.out(json.dumps({"robots": [asdict(one) for one in stopped], "trouble": trouble}), highlight=False)
    elif trouble:
        console.print(Text(trouble, style="bold red"))
    elif not stopped:
        console.print(Text("no robot has joined this fleet: nothing was stopped", style="bold red"))
    return int(not stopped or bool(trouble) or not all(one.confirmed for one in stopped))


def line(stopped: Stopped) -> Text:
    """What a person reads of one robot."""
    if stopped.confirmed:
        how = "" if stopped.detail == "halted" else f" ({stopped.detail})"
        return Text(f"{stopped.cell} halted after {stopped.after_s * 1e3:.0f} ms{how}", style="green")
    return Text(f"{stopped.cell} NOT CONFIRMED: {BUTTON} ({stopped.detail})", style="bold red")
