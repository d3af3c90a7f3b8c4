"""Mapped: where in its file a mapped value lies, for reads that go around the map.

Rows that are not in memory are read quicker by `pread` than by touching their pages one after the other. The kernel's
own list says where a file is mapped; LMDB maps its file once, from the beginning.
"""

from pathlib import Path

import numpy as np

MAPS = Path("/proc/self/maps")


def base_of(path: Path) -> int | None:
    """The address at which this process has mapped the file, None where that cannot be told."""
    wanted = str(path.resolve())
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and parts[5] == wanted and int(parts[2], 16) == 0:
            return int(parts[0].split("-")[0], 16)
    return None


def address_of(value: memoryview) -> int:
    """Where a value's first byte lies."""
    return int(np.frombuffer(value, np.uint8, 1).__array_interface__["data"][0])
