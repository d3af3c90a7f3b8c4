"""Names inside `observation.state` that say what a cell is, when cells that differ share one row schema.

`mask.<element>` is 1 where the cell has that element of the command, else 0; `embodiment.<model>` and `task.<name>` are
one-hot. `hal.embodiment` writes them; whoever learns finds them here, by name.
"""

from user_rl.specs import Box

MASK, EMBODIMENT, TASK = "mask.", "embodiment.", "task."
FLAGS = (MASK, EMBODIMENT, TASK)


def flags_of(state: Box) -> tuple[int, ...]:
    """Where in `state` the flags are: they are 0 or 1 as they stand, and nothing scales them."""
    return tuple(i for i, name in enumerate(state.names) if name.startswith(FLAGS))


def mask_of(state: Box, command: Box) -> tuple[int, ...]:
    """Where in `state` each element of the command has its mask; empty when the cell has every element."""
    names = [MASK + name for name in command.names]
    return tuple(map(state.names.index, names)) if set(names) <= set(state.names) else ()
