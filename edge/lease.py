"""Lease: under which token this cell may act, and until when. Durable, so that an old token never acts again.

The robot may act while the fleet wants it, under the newest token ever heard of, if that was not released, and for
`autonomy_s` after the last answered heartbeat was sent: a link that is cut for a shorter time does not stop it. When it
is no longer wanted, control ends its episode and halts; when it is told to finish, control goes on to the episode's end
and halts. Only then is the token released, on disk first, then in words.
"""

import logging
from pathlib import Path

import msgspec

from user_rl.errors import StorageCorrupt
from user_rl.files import write_atomically
from user_rl.fleet import Assignment, InferencePlace

log = logging.getLogger(__name__)


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What outlives every process."""

    token: int = 0  # the newest ever heard of
    released: int = 0  # never acts again under this one or an older
    run: str = ""
    experience_address: str = ""
    weights_address: str = ""
    live_address: str = ""
    inference: tuple[InferencePlace, ...] = ()


class Lease:
    """The lease of one cell, in `path`."""

    def __init__(self, path: Path, until_s: float = 0.0) -> None:
        """`until_s`: what a predecessor of this process, in the same daemon, had been granted."""
        self._path, self.until_s, self._unwanted = path, until_s, False
        self.finish = False  # no further episode under this lease: a higher priority waits
        self.record = _read(path)
        if self.record.token <= self.record.released:
            self.until_s = 0.0

    @property
    def releasing(self) -> bool:
        """Whether the fleet takes the lease back, and the token waits for control to halt to be released."""
        return (self._unwanted or self.finish) and self.record.token > self.record.released

    def hear(self, assignment: Assignment, sent_s: float) -> None:
        """Takes in the answer to a heartbeat sent at `sent_s`; raises StorageError, and then nothing has changed."""
        old = self.record
        if assignment.token < old.token:
            log.error("the fleet names token %d, allowed %d or newer; it is ignored", assignment.token, old.token)
            return
        self._store(
            msgspec.structs.replace(
                old, token=assignment.token, run=assignment.run or old.run,
                experience_address=assignment.experience_address, weights_address=assignment.weights_address,
                live_address=assignment.live_address, inference=assignment.inference,
            )
        )  # fmt: skip
        self._unwanted, self.finish = not assignment.wanted, assignment.finish_episode
        granted = assignment.wanted and assignment.token > old.released
        self.until_s = sent_s + assignment.autonomy_s if granted else 0.0

    def lose(self) -> None:
        """Another daemon has taken this cell's place: nothing may act here any more."""
        self.until_s = 0.0

    def suspend(self) -> None:
        """The fleet does not know this cell's name: nothing may act until it answers as before."""
        if self.until_s:
            log.error("this cell is not enrolled any more and halts; enrol it again")
        self.until_s = 0.0

    def release(self) -> None:
        """Control has halted: the token is never used again."""
        self._store(msgspec.structs.replace(self.record, released=self.record.token))

    def _store(self, record: Record) -> None:
        if record != self.record:
            write_atomically(self._path, msgspec.json.encode(record), mode=0o600)
            self.record = record


def _read(path: Path) -> Record:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return Record()
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(
            f"{path}: {error}; without it an old lease might act: ask for a new one, then remove the file"
        ) from error
