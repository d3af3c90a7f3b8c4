"""Import of a dataset into a log: its streams under a boot that its content decides, so a second import adds nothing.

A stream is `FORMAT-NAME/BOOT/RUN`; BOOT is the digest of the files, the map and the choices. Our own lossless exports
come back under the streams and steps that they had; those whose frames are video, hence not the bytes that were
recorded, under a boot of their own.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cloud.datasets.arguments import FORMATS
from cloud.datasets.conversion import Header, RowMaker
from cloud.datasets.hil_serl import HilSerlPickles
from cloud.datasets.inference import fitted, inferred_schema
from cloud.datasets.landing import landing
from cloud.datasets.lerobot_check import check_lerobot_v3
from cloud.datasets.lerobot_reader import LeRobotDataset, OwnExport, is_own_export
from cloud.datasets.mapping import Names, chosen_names
from cloud.datasets.recorded import Dataset
from cloud.datasets.robomimic import RobomimicFile
from user_rl.errors import ConfigError, StorageCorrupt, StorageError
from user_rl.log import Log
from user_rl.rows import Kind, Klass, Schema
from user_rl.specs import Array

COMMIT_BYTES = 64 * 2**20
NAME_BYTES = 48  # of a cell or a run, as a row's columns hold them

Tell = Callable[[int], None]  # bytes of rows that were written since the last call
Rows = Iterator[tuple[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the operator chose."""

    klass: Klass = Klass.DEMONSTRATION
    run: str = "imported"
    task: str | None = None
    names: Names = field(default_factory=dict)  # of --map
    mask: str | None = None  # of a robomimic file
    trust_pickle: bool = False
    schema: Schema | None = None  # whose specs the rows must have; None: inferred
    whose: str = ""  # where they are from


@dataclass(kw_only=True)
class Imported:
    """What came of it."""

    log: str
    streams: list[str] = field(default_factory=list)
    episodes: int = 0
    successful: int = 0
    rows: int = 0
    already: int = 0  # rows that the log had
    left_out: list[str] = field(default_factory=list)  # observations that the specs do not have
    actions_given_up: int = 0  # last actions whose outcome the dataset does not hold
    cuts: int = 0  # places where a piece of an episode is missing


def import_dataset(source: Path, form: str, target: Path, choices: Choices, *, tell: Tell = lambda _: None) -> Imported:
    """Brings the dataset `source` into the log `target`, whole or not at all.

    Raises ConfigError, SpecError or StorageCorrupt naming what is wrong, StorageBusy, StorageFull.
    """
    if form not in FORMATS:
        raise ConfigError(f"--format {form}, allowed {', '.join(FORMATS)}; choose one of these")
    if form == "lerobot" and is_own_export(source) and not choices.names:
        return _import_own(source, target, choices, tell)
    dataset = _open(source, form, choices)
    done = Imported(log=str(target))
    try:
        names = chosen_names(dataset.usual, choices.names, list(dataset.columns))
        schema = choices.schema
        if schema is None:
            schema = inferred_schema(dataset, names)
        else:
            names, done.left_out = fitted(names, schema, choices.whose)
        stream = f"{_short(dataset.name)}/{_boot(dataset, names, schema, choices)}/{choices.run}"
        done.streams = [stream]
        maker = RowMaker(schema, names, Header(
            klass=choices.klass, run=choices.run, task=choices.task, rate_hz=dataset.rate_hz,
        ))  # fmt: skip
        wanted = {name for theirs in names.values() for name in theirs}
        rows = ((stream, maker.rows(raw)) for raw in dataset.episodes(wanted))
        _land(target, {stream: schema}, rows, done, tell)
        done.actions_given_up, done.cuts = maker.given_up, getattr(dataset, "cuts", 0)
    finally:
        dataset.close()
    return done


def _open(source: Path, form: str, choices: Choices) -> Dataset:
    if form == "robomimic":
        return RobomimicFile(source, part=choices.mask)
    if form == "hil-serl":
        return HilSerlPickles(source, trusted=choices.trust_pickle)
    dataset = LeRobotDataset(source)
    if dataset.folder.is_v3:
        _refuse(source)
    return dataset


def _refuse(source: Path) -> None:
    problems = check_lerobot_v3(source)
    if problems:
        more = f" ({len(problems)} problems in all)" if len(problems) > 1 else ""
        raise StorageCorrupt(f"{problems[0]}{more}; copy or export the dataset again")


def _import_own(source: Path, target: Path, choices: Choices, tell: Tell) -> Imported:
    """The rows as they were exported: what they say of task, class and run stays."""
    if choices.task is not None or choices.klass != Klass.DEMONSTRATION:
        raise ConfigError(
            f"{source}: is an export of a log, its rows keep task and class; leave --task and --online out"
        )
    _refuse(source)
    own = OwnExport(source)
    done = Imported(log=str(target))
    try:
        for stream, schema in own.schemas.items():
            if choices.schema is not None and schema.digest != choices.schema.digest:
                raise ConfigError(
                    f"{source}: stream {stream} has other specs than {choices.whose}; import it elsewhere"
                )
        digest = "" if own.is_exact else _digest_of(own.folder.files())
        renamed = {name: name if own.is_exact else _derived(name, digest) for name in own.schemas}
        done.streams = list(renamed.values())
        rows = ((renamed[stream], rows) for stream, rows in own.rows())
        _land(target, {renamed[name]: schema for name, schema in own.schemas.items()}, rows, done, tell)
    finally:
        own.close()
    return done


def _land(target: Path, schemas: dict[str, Schema], rows: Rows, done: Imported, tell: Tell) -> None:
    """Appends what the log does not have. A log that has all of it is not touched."""
    with landing(target) as landed:
        ends = {stream: landed.log.open_stream(stream, schema) for stream, schema in schemas.items()}
        waiting = 0
        for stream, episode in rows:
            new = episode[episode["step"].astype(np.int64) > ends[stream]]
            _check_old(landed.log, stream, episode[: len(episode) - len(new)])
            _append(landed.log, stream, new)
            _count(done, episode, len(new))
            tell(episode.nbytes)
            waiting += new.nbytes
            if waiting >= COMMIT_BYTES:
                landed.log.commit()
                waiting = 0
        landed.is_wanted = done.rows > 0


def _append(log: Log, stream: str, rows: Array) -> None:
    """Appends `rows`, with a gap for every step that is not among them."""
    for part in np.split(rows, np.flatnonzero(np.diff(rows["step"].astype(np.int64)) != 1) + 1):
        if len(part):
            at, first = log.appended(stream) + 1, int(part["step"][0])
            if first > at:
                log.append_gap(stream, at, first - 1)
            log.append(stream, part)


def _check_old(log: Log, stream: str, rows: Array) -> None:
    """Raises StorageError where the log has no row any more for what comes again."""
    for step in {int(rows["step"][0]), int(rows["step"][-1])} if len(rows) else ():
        found = log.read(stream, step, 1)
        if not found or found[0].first != step:
            raise StorageError(
                f"{log.path}: stream {stream}, step {step} was written off there and cannot come back; import into a "
                "new log"
            )


def _count(done: Imported, episode: Array, new: int) -> None:
    done.already += len(episode) - new
    if new:
        done.rows += new
        done.episodes += 1
        done.successful += bool(episode["next.success"].any() and episode["kind"][-1] == Kind.LAST)


def _boot(dataset: Dataset, names: Names, schema: Schema, choices: Choices) -> str:
    said = json.dumps([names, int(choices.klass), choices.task, choices.mask, schema.digest], sort_keys=True)
    files = dataset.files()
    return _digest_of(files, said)


def _derived(stream: str, digest: str) -> str:
    """The stream with a boot of its own: these are not the bytes that the boot recorded."""
    cell, boot, run = stream.split("/")
    return f"{cell}/{hashlib.blake2b(f'{boot}{digest}'.encode(), digest_size=16).hexdigest()}/{run}"


def _digest_of(files: Sequence[Path], said: str = "") -> str:
    """32 hex digits of what was `said` and of the files' bytes, in this order."""
    digest = hashlib.blake2b(said.encode(), digest_size=16)
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _short(name: str) -> str:
    """A cell's name: its end is what tells datasets apart the least."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return plain.encode("ascii", "replace").decode().replace("?", "-")[:NAME_BYTES]
