"""Rollback: an older version's content becomes the next number and is held until a person releases it.

Numbers never go back and never repeat: an edge that has version 9 takes up the content of 6 as version 10. Beside a
running learner this is safe, for both take the store's lock.
"""

import getpass
import logging
from datetime import UTC, datetime

import msgspec

from cloud.weight_hold import HOLD, Hold, read_hold
from cloud.weights import WeightStore
from user_rl.errors import ConfigError
from user_rl.files import sync_folder
from user_rl.versions import Version

log = logging.getLogger(__name__)


def roll_back(store: WeightStore, number: int) -> Version:
    """Publishes the content of version `number` again and holds it; raises StorageError if it is not there any more."""
    with store.alone():
        version = store.republish(number)
        hold = Hold(
            number=version.number, content=number, since=datetime.now(UTC).isoformat(timespec="seconds"),
            by=getpass.getuser(),
        )  # fmt: skip
        store.put(HOLD, msgspec.json.encode(hold))
    log.info("version %d is held: the content of %d", version.number, number)
    return version


def release(store: WeightStore) -> Version | None:
    """Ends the hold; returns what is offered from now on. Raises ConfigError where nothing is held."""
    if not (store.root / HOLD).exists():
        raise ConfigError(f"{store.root}: no version is held, allowed release after rollback; nothing was changed")
    with store.alone():
        (store.root / HOLD).unlink(missing_ok=True)
        sync_folder(store.root)
    return store.newest()


def listed(store: WeightStore) -> list[dict[str, object]]:
    """Every version that is there, oldest first, as plain data."""
    hold, offered = read_hold(store.root), store.offered()
    return [
        {
            "number": version.number, "parent": version.parent, "anchor": version.anchor, "updates": version.updates,
            "bytes": version.size, "sha256": version.sha256, "incarnation": version.incarnation,
            "offered": offered is not None and version.number == offered.number,
            "held": hold is not None and version.number == hold.number,
            "content": hold.content if hold is not None and version.number == hold.number else version.number,
        }
        for version in map(store.manifest, store.numbers())
    ]  # fmt: skip
