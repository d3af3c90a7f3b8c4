"""The process that writes one automatic video: last in line for the processor, and it ends whatever becomes of it."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from cloud.run import RunFolder
from cloud.videos.run import write_automatic
from user_rl.errors import UserRlError

LONGEST_S = 600  # then the kernel ends it


def main(argv: list[str] | None = None) -> int:
    """Writes RUN/videos/auto-*.mp4 of the newest episode that a policy drove."""
    parser = argparse.ArgumentParser(prog="python -m cloud.videos", description=main.__doc__)
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--keep", type=int, required=True, help="automatic videos that stay, the newest ones")
    args = parser.parse_args(argv)
    os.nice(19)
    signal.alarm(LONGEST_S)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s videos: %(message)s")
    log = logging.getLogger(__name__)
    try:
        log.info("%s", write_automatic(RunFolder(args.run), args.keep))
    except UserRlError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
