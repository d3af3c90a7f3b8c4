"""Coldness: asks the system to read ahead what is about to be copied from a map, while reading shows to be slow.

Rows drawn at random defeat the system's own readahead: each waits for its pages. Asked for all rows first, the disk has
them all in hand. Where the pages are in memory already, asking only costs; so it is done while the last copies were
slower than memory ever is.
"""

import ctypes
import mmap

from user_rl.specs import Array

WARM_BYTES_S = 1.5e9  # copies from the page cache reach several times that
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Coldness:
    """One thread's judgement of its last copies."""

    def __init__(self) -> None:
        self.is_cold = True

    def took(self, copied_bytes: int, took_s: float) -> None:
        """Takes note of what a read cost."""
        self.is_cold = copied_bytes < WARM_BYTES_S * took_s


def advise(records: Array, offsets: list[int]) -> None:
    """Tells the system that the records [n, row_bytes] at `offsets` in a map are wanted soon."""
    start, row_bytes = records.__array_interface__["data"][0], records.shape[1]
    for offset in offsets:
        first = (start + offset * row_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        end = start + (offset + 1) * row_bytes
        _LIBC.madvise(first, end - first, mmap.MADV_WILLNEED)
