"""`python -m cloud.fleet --home HOME`: the fleet as a process of its own."""

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from cloud.fleet.server import ServeConfig, serve
from user_rl.errors import UserRlError

log = logging.getLogger("cloud.fleet")


def main(argv: list[str] | None = None) -> int:
    """Serves until SIGTERM, SIGINT or idleness; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(_config(argv), stop)
    except UserRlError as error:
        log.error("%s", error)
        return 1
    return 0


def _config(argv: list[str] | None) -> ServeConfig:
    parser = argparse.ArgumentParser(prog="python -m cloud.fleet", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="the folder of keys, leases and log")
    parser.add_argument("--listen", default=ServeConfig.listen, metavar="HOST:PORT", help="port 0: a free one")
    parser.add_argument("--idle-exit", type=float, default=None, metavar="S", help="end after S seconds of nothing")
    parser.add_argument("--site", default=ServeConfig.site, help="where this machine is, for its accelerators")
    options = parser.parse_args(argv)
    return ServeConfig(
        home=options.home, listen=options.listen, site=options.site, idle_exit_s=options.idle_exit
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
