"""A version's weights file: safetensors, durable before anyone hears its hash."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from user_rl.specs import Array


def write_weights(path: Path, tensors: Mapping[str, Array]) -> tuple[str, int]:
    """Writes and syncs `path`; returns (sha256 as 64 hex digits, bytes): equal tensors give equal bytes.

    Raises OSError. The caller renames the folder and syncs its parent; a name that exists is never overwritten.
    """
    data = save({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest(), len(data)
