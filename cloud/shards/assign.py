"""Which cell goes to which shard: on its own site where a shard is there, then evenly, moving as few as that takes.

Pure and deterministic: the same cells, shards and homes give the same answer, in whatever order they are told.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a cell brings. Cells count alike; `weight`, bytes per second or what is in proportion to it, breaks ties."""

    site: str = ""  # network neighbourhood; empty: not said
    weight: float = 0.0


def assign(cells: Mapping[str, Load], shards: Mapping[int, str], homes: Mapping[str, int]) -> dict[str, int]:
    """The shard of each cell. `shards`: those that live, and their sites; `homes`: where cells are now.

    Empty where no shard lives. Of the shards that a cell may go to, none has two cells fewer than the one it gets.
    """
    if not shards:
        return {}
    allowed = {cell: _allowed(load, shards) for cell, load in cells.items()}
    found = {cell: homes[cell] for cell in cells if homes.get(cell) in allowed[cell]}
    for cell in sorted(cells.keys() - found.keys(), key=lambda cell: (-cells[cell].weight, cell)):
        found[cell] = _lightest(allowed[cell], found, cells)
    while move := _next_move(found, allowed, cells):
        found[move[0]] = move[1]
    return found


def loads(cells: Mapping[str, Mapping[str, Any]]) -> dict[str, Load]:
    """Of cells as `Claim.cells_seen` has them: the rows of one run are of one size, so their rate weighs."""
    return {name: Load(site=cell["site"], weight=cell["rate_hz"]) for name, cell in cells.items()}


def _allowed(load: Load, shards: Mapping[int, str]) -> frozenset[int]:
    near = {number for number, site in shards.items() if site == load.site}
    return frozenset(near or shards)


def _lightest(shards: frozenset[int], found: Mapping[str, int], cells: Mapping[str, Load]) -> int:
    return min(sorted(shards), key=lambda shard: _weight(shard, found, cells))


def _weight(shard: int, found: Mapping[str, int], cells: Mapping[str, Load]) -> tuple[int, float]:
    there = [cells[cell].weight for cell, at in found.items() if at == shard]
    return len(there), sum(sorted(there))


def _next_move(
    found: Mapping[str, int], allowed: Mapping[str, frozenset[int]], cells: Mapping[str, Load]
) -> tuple[str, int] | None:  # fmt: skip
    """The cell whose move evens out most, and where it goes; None: all is even."""
    best: tuple[int, float, str, int] | None = None
    for cell, at in sorted(found.items()):
        to = _lightest(allowed[cell], found, cells)
        gain = _weight(at, found, cells)[0] - _weight(to, found, cells)[0]
        move = (-gain, cells[cell].weight, cell, to)
        if gain > 1 and (best is None or move < best):
            best = move
    return None if best is None else (best[2], best[3])
