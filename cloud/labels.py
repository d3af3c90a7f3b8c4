"""Labels of a run: late columns, from a file or by hand, written through whoever owns the run's columns now.

Nobody has them: this process takes them for as long as it writes. The run's gateway has them: it is asked over the
wire. Either way each value gets its verdict, and only what was committed is called written.
"""

import getpass
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cloud.label_files import Block, fits, inferred, read_labels
from cloud.run import RunFolder
from user_rl.clock import SystemClock
from user_rl.columns import Column, ColumnReader, Columns, Holdings, Verdict, column_from_name
from user_rl.errors import ConfigError
from user_rl.log import Episode, Reader
from user_rl.specs import Array

WAIT_S = 5.0  # for another labeller on this machine
SHOWN = 1000  # refused rows that are named one by one
COMMIT_BYTES = 8 * 2**20
REFUSED = (Verdict.CONFLICT, Verdict.UNKNOWN, Verdict.EVICTED, Verdict.INVALID)
BY_HAND = {"keep": ("keep", 1), "discard": ("keep", 0), "success": ("success", 1), "failure": ("success", 0)}
Tell = Callable[[int], None]


class Sink(Protocol):
    """Where labels go: `Columns`, or the gateway's."""

    @property
    def waiting_bytes(self) -> int: ...

    def add(self, column: Column) -> Column: ...

    def write(self, identity: str, stream: str, ids: Array, values: Any) -> Array: ...  # noqa: ANN401

    def commit(self) -> dict[str, int]: ...


@dataclass
class Labelled:
    """What became of the labels. `refused` names the first rows that were, each with its reason."""

    column: str
    seq: int | None = None  # of the last commit; None: there was nothing new
    counts: dict[str, int] = field(default_factory=lambda: {v.name.lower(): 0 for v in Verdict})
    refused: list[dict[str, Any]] = field(default_factory=list)

    @property
    def refusals(self) -> int:
        """How many values were refused."""
        return sum(self.counts[v.name.lower()] for v in REFUSED)

    def note(self, stream: str, ids: Array, verdicts: Array) -> None:
        """Counts the verdicts of one call."""
        for verdict in Verdict:
            self.counts[verdict.name.lower()] += int(np.count_nonzero(verdicts == verdict))
        for i in np.flatnonzero(verdicts > Verdict.SAME)[: SHOWN - len(self.refused)]:
            reason = Verdict(int(verdicts[i])).name.lower()
            self.refused.append({"stream": stream, "id": int(ids[i]), "reason": reason})


@dataclass(frozen=True, kw_only=True)
class FileLabels:
    """What `user-rl label --column` asks for."""

    name: str
    writer: str
    version: int
    path: Path
    unit: str = ""


@contextmanager
def own_columns(folder: RunFolder, *, wait_s: float) -> Iterator[Columns]:
    """The run's columns, taken by this process; raises StorageBusy naming the process that has them."""
    with reader_of(folder) as reader:
        holdings = Holdings(reader, clock=SystemClock())
        with Columns(columns_of(folder), holdings, wait_s=wait_s) as columns:
            yield columns
            columns.prune()  # of what the log has dropped since


def columns_of(folder: RunFolder) -> Path:
    """Where the run's late columns lie."""
    return folder.root / "columns"


def reader_of(folder: RunFolder) -> Reader:
    """The run's log; raises ConfigError when there is none yet."""
    if not (folder.log / "log.json").is_file():
        raise ConfigError(f"run {folder.name}: no experience log in {folder.root} yet; wait for its first episode")
    return Reader(folder.log)


def label_from_file(sink: Sink, run: str, wanted: FileLabels, *, tell: Tell = lambda _: None) -> Labelled:
    """Writes a file's labels; `tell` hears how many of its bytes were dealt with since the last call."""
    done = Labelled(f"{wanted.name}@{wanted.writer}-{wanted.version}")
    column: Column | None = None
    read = 0
    for block in read_labels(wanted.path):
        if column is None:
            column = sink.add(_column_for(done.column, wanted, block))
        fits(column, block)
        for name, places in block.by_stream():
            stream = stream_of(name, run)
            values = [block.values[i] for i in places] if isinstance(block.values, list) else block.values[places]
            done.note(stream, block.ids[places], sink.write(column.identity, stream, block.ids[places], values))
            if sink.waiting_bytes >= COMMIT_BYTES:
                _commit(sink, done)
        tell(block.until - read)
        read = block.until
    if column is None:
        raise ConfigError(f"--from {wanted.path}: has no rows, allowed one or more; look at what made it")
    return _commit(sink, done)


def label_episode(sink: Sink, episode: Episode, what: str, *, writer: str, taken: list[str]) -> Labelled:
    """Writes one of BY_HAND; in a new version where this writer has said something else. `taken`: its versions."""
    name, value = BY_HAND[what]
    version = max((int(identity.rpartition("-")[2]) for identity in taken), default=1)
    ids = np.array([episode.episode])
    while True:
        identity = f"{name}@{writer}-{version}"
        column = sink.add(column_from_name(identity, dtype="u1", per="episode", created_by=by()))
        verdicts = sink.write(column.identity, episode.stream, ids, np.array([value]))
        if verdicts[0] != Verdict.CONFLICT:
            break
        version += 1
    done = Labelled(identity)
    done.note(episode.stream, ids, verdicts)
    return _commit(sink, done)


def list_columns(folder: RunFolder) -> list[dict[str, Any]]:
    """Every column of a run as plain data."""
    with ColumnReader(columns_of(folder)) as reader:
        seqs = reader.seqs()
        return [_listed(reader.column(identity), seqs[identity], reader.count(identity)) for identity in reader.names()]


def stream_of(name: str, run: str) -> str:
    """CELL/BOOT as the run's stream; a whole name as it is."""
    return f"{name}/{run}" if name.count("/") == 1 else name


def by() -> str:
    """Who labels, in words."""
    return getpass.getuser()


def writer_name() -> str:
    """The user's name as a column's writer."""
    return re.sub("[^A-Za-z0-9_.]", "_", by()).lstrip("_.")[:40] or "person"


def as_tree(done: Labelled) -> Mapping[str, Any]:
    """For programs."""
    return asdict(done)


def _column_for(identity: str, wanted: FileLabels, block: Block) -> Column:
    dtype, shape = inferred(block)
    return column_from_name(
        identity,
        dtype=dtype,
        shape=shape,
        unit=wanted.unit,
        per=block.per,
        created_by=f"{by()} from {wanted.path.name}",
    )


def _commit(sink: Sink, done: Labelled) -> Labelled:
    done.seq = sink.commit().get(done.column, done.seq)
    return done


def _listed(column: Column, seq: int, count: int) -> dict[str, Any]:
    return {
        "column": column.identity, "values": count, "seq": seq, "per": column.per, "dtype": column.dtype,
        "shape": list(column.shape), "unit": column.unit, "created_by": column.created_by,
    }  # fmt: skip
