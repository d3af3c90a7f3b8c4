"""Brain: the newest version as a policy that gives chunks, loaded beside the answering and swapped between two answers.

Its thread looks for a newer version and loads it; what it has made is handed over whole, by one assignment. A version
that cannot be loaded is named once, and the one before it goes on. Which version is the newest that may act is the
source's to say: a run that was rolled back names an older one.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cloud.inference.config import ServingConfig
from policies.load import load
from policies.policy import Policy, SingleStep, as_chunks, chunk_of
from user_rl.errors import ConfigError, SchemaMismatch, StorageError
from user_rl.rows import Schema, schema_from_bytes
from user_rl.specs import Array, Spec
from user_rl.versions import Version

log = logging.getLogger(__name__)

Source = Callable[[], Path | None]  # the folder of the version that may act now; raises StorageError
SCHEMAS = 8  # that are remembered; a run has one


@dataclass(frozen=True)
class Loaded:
    """A version that may act."""

    folder: Path
    version: Version
    policy: SingleStep | Policy

    def act(self, observation: Mapping[str, Array], *, explore: bool, horizon: int, prefix: Array | None) -> Array:
        """Actions [H, A], at most `horizon` of them."""
        return chunk_of(self.chunks(horizon), observation, explore=explore, prefix=prefix)[:horizon]

    def chunks(self, horizon: int) -> Policy:
        """The policy as one that gives chunks."""
        return as_chunks(self.policy, horizon)


class Brain:
    """`start` and `stop` its thread, which calls `refresh`; everything else from the one that answers."""

    def __init__(self, source: Source, config: ServingConfig, *, seed: int = 0, schema: Schema | None = None) -> None:
        self._source, self._config, self._seed = source, config, seed
        self._schemas: dict[str, Mapping[str, Spec]] = {}
        if schema is not None:
            self._schemas[schema.digest] = schema.observation
        self.loaded: Loaded | None = None
        self._refused: Path | None = None
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="weights", daemon=True)

    def start(self) -> None:
        """Looks for versions from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and waits for that."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def learn(self, encoded: bytes) -> None:
        """A schema that an edge has shown; raises SchemaMismatch for what is none."""
        schema = schema_from_bytes(encoded)
        if len(self._schemas) < SCHEMAS or (self.loaded and self.loaded.version.schema == schema.digest):
            self._schemas.setdefault(schema.digest, schema.observation)

    def specs(self, digest: str) -> Mapping[str, Spec]:
        """What is observed in rows of this schema; raises SchemaMismatch if that is not what the version is for."""
        wanted = "" if self.loaded is None else self.loaded.version.schema
        if digest != wanted or digest not in self._schemas:
            raise SchemaMismatch(f"rows of schema {digest[:8]}, allowed {wanted[:8] or 'none yet'}; show it, or update")
        return self._schemas[digest]

    @property
    def knows_schema(self) -> bool:
        """Whether the rows that the version is for have been shown."""
        return self.loaded is not None and self.loaded.version.schema in self._schemas

    def refresh(self) -> None:
        """Loads what may act now, if that is another version."""
        try:
            folder = self._source()
            if folder is not None and folder not in (self._refused, self.loaded.folder if self.loaded else None):
                self._refused = folder  # unless it can be loaded
                self.loaded, self._refused = self._load(folder), None
        except (StorageError, ConfigError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("%s; inference goes on with the version before it", error)

    def _load(self, folder: Path) -> Loaded:
        version, policy = load(folder, seed=self._seed + int(folder.name))
        if version.schema in self._schemas:
            _try(policy, self._schemas[version.schema], version.number)
        self._complaint = ""
        log.info("acts by version %d", version.number)
        return Loaded(folder, version, policy)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.refresh()
            self._stopping.wait(self._config.weights_every_s)


def _try(policy: SingleStep | Policy, specs: Mapping[str, Spec], number: int) -> None:
    """Acts once on zeros: a first pass is the slowest, and shows what does not fit."""
    try:
        zeros = {name: np.zeros(spec.shape, spec.dtype) for name, spec in specs.items()}
        chunk_of(as_chunks(policy, 1), zeros, explore=False)
    except (ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"version {number} cannot act on its own rows: {error}; publish another") from error
