"""Guests: whom a server that infers may answer. The gateway knows; a server on a site of its own asks it."""

from collections.abc import Callable, Mapping

from user_rl.channels import Allowed

EDGE, INFERENCE = "edge:", "inference:"


def guests_of(allowed: Allowed, tokens: Callable[[str], int | None]) -> dict[str, str]:
    """{CURVE public key: cell} of the edges that are enrolled and leased by the run now."""
    edges = {key: name.removeprefix(EDGE) for key, name in allowed().items() if name.startswith(EDGE)}
    return {key: cell for key, cell in edges.items() if tokens(cell) is not None}


def allow_set(guests: Mapping[str, str]) -> dict[str, str]:
    """The same as a channel's allow set."""
    return {key: f"{EDGE}{cell}" for key, cell in guests.items()}
