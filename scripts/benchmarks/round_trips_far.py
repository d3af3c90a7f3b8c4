"""round_trips_far: `round_trips` over a lab's link: 80 ms and 20 Mbit/s without loss. `link` calls it.

The gateway is a process in the cloud's network (`serve`), the edge and the pings are in the robot's (`ask`).
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from cloud.authority import Authority
from scripts.benchmarks.machine import record
from scripts.benchmarks.round_trips import fill, rtt_added_wan_ms, serve
from scripts.netlab import Lab, missing
from scripts.netlab.lab import CLOUD, WAN
from user_rl.trust import save_bundle

SECONDS = 30.0
MARGIN = 2.0  # so much more lies in the spool than the link carries in that time
THIS = (sys.executable, "-m", "scripts.benchmarks.round_trips_far")


def measure(seconds: float = SECONDS) -> dict[str, float]:
    """`rtt_added_wan_ms` and the rest of its row, under keys that end in `_wan`."""
    with tempfile.TemporaryDirectory(prefix="bench-far-") as path, Lab() as lab:
        root = Path(path)
        save_bundle(Authority(root / "authority").mint("bench", kind="edge", fleet_address="no:0"), root / "bench.json")
        fill(root, round(MARGIN * (seconds + 5) * WAN.rate_mbit * 1e6 / 8))
        lab.link.shape(WAN)
        argv = [*lab.cloud.prefix, *THIS, "serve", path]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as gateway:
            assert gateway.stdin is not None
            assert gateway.stdout is not None
            doors = json.loads(gateway.stdout.readline())
            said = lab.robot.run(*THIS, "ask", path, *doors, "--seconds", str(seconds))
            gateway.stdin.close()
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return {name if name.endswith("_wan_ms") else f"{name}_wan": value for name, value in found.items()}


def serve_here(root: Path) -> None:
    """A gateway that prints its doors and ends with its standard input."""
    here, there = multiprocessing.Pipe()

    def attend() -> None:
        print(json.dumps(here.recv()), flush=True)
        sys.stdin.read()
        here.send("stop")

    threading.Thread(target=attend, daemon=True).start()
    serve(root, CLOUD, there)


def main() -> None:
    """Measures and prints; `serve` and `ask` are its two halves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("serve", "ask"))
    parser.add_argument("root", nargs="?", type=Path)
    parser.add_argument("doors", nargs="*", help="experience and live, as `serve` printed them")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.part == "serve":
        serve_here(args.root)
    elif args.part == "ask":
        experience, live = args.doors
        print(json.dumps(rtt_added_wan_ms(args.root, experience, live, seconds=args.seconds)))
    elif missing():
        raise SystemExit(f"round_trips_far: {missing()}")
    else:
        record("round_trips_far", measure(args.seconds), args.json)


if __name__ == "__main__":
    main()
