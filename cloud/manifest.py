"""What `manifest.json` says of a run: where it stands, and which checkpoint belongs to it. Read without torch."""

from pathlib import Path

import msgspec

from cloud.limiter import LimiterState
from cloud.staleness import FreshState, StalenessState
from user_rl.errors import StorageCorrupt
from user_rl.log.snapshot import Snapshot

FORMAT = 1
MANIFEST, FOLDER, STATE = "manifest.json", "checkpoints", "algorithm.safetensors"


class RunState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a run stands: the counters that a resume goes on from."""

    updates: int
    draws: int  # number of the next batch to draw
    log_seq: int  # the last commit of the experience log that the replay had taken in
    snapshot: Snapshot | None = None  # the log at `log_seq`, whose segments are pinned
    shards: dict[int, Snapshot] = {}  # the same of the run's other logs, whose commits `log_seq` then counts too
    limiter: LimiterState
    staleness: StalenessState | None = None  # None: no limit was set
    fresh: FreshState | None = None  # the queue of on-policy data, where there is one
    columns: dict[str, int] = {}  # late column -> the commit of it that was read last
    weight_number: int  # the newest version published
    trained_s: float  # time with updates, over all lives
    wall_s: float  # time of the learner, over all lives
    incarnation: str
    seed: int
    schema: str  # digest of the rows


class RunManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`manifest.json`."""

    format: int
    checkpoint: int
    sha256: str
    size: int
    state: RunState


def read_manifest(run: Path) -> RunManifest | None:
    """The manifest in the folder `run`, None before the first save; raises StorageCorrupt when it cannot be read."""
    path = run / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=RunManifest)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path} cannot be read: {error}; restore it from a copy of the run") from error
    if manifest.format != FORMAT:
        raise StorageCorrupt(f"{path}: format {manifest.format}, allowed {FORMAT}; use the release that wrote it")
    return manifest
