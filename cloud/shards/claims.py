"""What a run's checkpoints hold of its logs: a claim (cloud.claim_log) on each of them."""

from pathlib import Path

from cloud.claim_log import LogClaim
from cloud.manifest import RunState
from cloud.shards.merged import Merged
from user_rl.log.snapshot import Snapshot, Wanted


class RunClaim:
    """The claims of one run, whose first shard's log is `path`. `source`: what its learner reads."""

    def __init__(self, path: Path, source: object, wanted: Wanted) -> None:
        self._first = LogClaim(path, source, wanted)
        self._merged, self._wanted = source if isinstance(source, Merged) else None, wanted
        self._claims: dict[int, LogClaim] = {}

    def gone_steps(self) -> int:
        """Online steps that the logs had and have no more."""
        claims = self._each()
        return sum(claim.gone_steps() for claim in claims.values()) if claims else self._first.gone_steps()

    def take(self, seq: int, before: RunState | None) -> dict[int, Snapshot]:
        """By shard its log as it was at commit `seq` of the run's order, pinned; see LogClaim.take."""
        claims, held = self._each(), {} if before is None else snapshots(before)
        if self._merged is None:
            taken = {0: self._first.take(seq, held.get(0))}
        else:
            taken = {n: claims[n].take(at, held.get(n)) for n, at in self._merged.local(seq).items() if n in claims}
        return {number: found for number, found in taken.items() if found is not None}

    def check(self, state: RunState) -> None:
        """Says in a line for each log what it lacks of a checkpoint's snapshot."""
        claims = self._each() or {0: self._first}
        for number, found in snapshots(state).items():
            if number in claims:
                claims[number].check(found)

    def _each(self) -> dict[int, LogClaim]:
        readers = {} if self._merged is None else self._merged.readers
        for number, reader in readers.items():
            if number not in self._claims:
                self._claims[number] = LogClaim(reader.path, reader, self._wanted)
        return self._claims


def snapshots(state: RunState) -> dict[int, Snapshot]:
    """The snapshots that a manifest names, by shard."""
    first = {} if state.snapshot is None else {0: state.snapshot}
    return {**first, **state.shards}
