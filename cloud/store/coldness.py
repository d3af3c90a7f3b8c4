"""Coldness: whether rows drawn at random come from memory or from the disk, judged by how long the last ones took.

What is in memory is copied from the map. What is not is read through its file, several rows by several threads at once:
a touched page brings its neighbours in one by one, a read asks for all of a row.
"""

WARM_BYTES_S = 3e9


class Coldness:
    """One thread's judgement of its last copies."""

    def __init__(self) -> None:
        self.is_cold = True

    def took(self, copied_bytes: int, took_s: float) -> None:
        """Takes note of what a read cost."""
        self.is_cold = copied_bytes < WARM_BYTES_S * took_s
