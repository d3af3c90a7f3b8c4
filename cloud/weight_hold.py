"""A hold on a run's weights: while `RUN/weights/hold.json` is there, edges are offered this version and no other.

A person sets it by `user-rl weights rollback` and ends it by `release` (cloud.rollback). The learner goes on publishing
meanwhile; what it publishes is kept and offered after the release.
"""

from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt

HOLD = "hold.json"


class Hold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version is offered, whose content it is, since when (UTC, ISO 8601) and by whose hand."""

    number: int
    content: int
    since: str
    by: str


def read_hold(root: Path) -> Hold | None:
    """The hold on the store in `root`; None: there is none. Raises StorageCorrupt: nobody guesses what was held."""
    path = root / HOLD
    try:
        return msgspec.json.decode(path.read_bytes(), type=Hold)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageCorrupt(
            f"{path} cannot be read: {error}; run user-rl weights release, or rollback again"
        ) from error
