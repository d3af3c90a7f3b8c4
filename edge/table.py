"""Tables for people: columns under headings, as wide as the terminal, without a package."""

import shutil
import sys
import textwrap
from collections.abc import Sequence

_GAP = "  "
_NARROWEST = 14  # characters: no column is wrapped to less


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, width: int, wrapped: Sequence[int]) -> str:
    """Text of at most `width` characters a line, where wrapping the columns `wrapped` (their numbers) can do that."""
    sizes = [max(len(row[i]) for row in (headings, *rows)) for i in range(len(headings))]
    while sum(sizes) + len(_GAP) * (len(sizes) - 1) > width:
        widest = max(wrapped, key=lambda i: sizes[i])
        if sizes[widest] <= _NARROWEST:
            break
        sizes[widest] -= 1
    return "\n".join(line for row in (headings, *rows) for line in _lines(row, sizes))


def terminal_width() -> int:
    """Characters a line of the terminal has; many where the output goes into a file."""
    return shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 160


def _lines(row: Sequence[str], sizes: Sequence[int]) -> list[str]:
    cells = [textwrap.wrap(cell, size, break_on_hyphens=False) for cell, size in zip(row, sizes, strict=True)]
    height = max(map(len, cells))
    return [
        _GAP.join(
            (cell[k] if k < len(cell) else "").ljust(size) for cell, size in zip(cells, sizes, strict=True)
        ).rstrip()
        for k in range(height)
    ]
