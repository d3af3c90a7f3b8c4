"""A small cloud as a process of its own, so that it can stand in another network: `python -m tests.netlab.far_cloud`.

Arguments: a folder, and the host by which the robot finds it. It prints `ready` when the cell may act, then answers
each line of its input with one: `rows`, `bounce` (another gateway, on other ports), `end` (how the logs differ).
"""

import sys
from pathlib import Path

from tests.edge.plant import FAKE, Plant, schema_of


def main() -> None:
    path, host = Path(sys.argv[1]), sys.argv[2]
    cloud = Plant(path, host=host)
    cloud.publish(schema_of(FAKE))
    say("enrolled")
    cloud.lease()
    say("ready")
    for line in sys.stdin:
        word = line.strip()
        if word == "bounce":
            cloud.close_gateway()
            cloud.open_gateway()
        if word == "end":
            say(*cloud.differences())
            break
        say(cloud.rows())
    cloud.close()


def say(*words: object) -> None:
    """One line to whoever started this."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
