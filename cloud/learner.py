"""The learner: the loop that every algorithm shares. It owns all that is not mathematics.

Wait for a robot's schema, restore or begin, publish, then: take in what the log has, update when the limiter allows,
publish, save, report, stop. What it has learned is `Position`, small enough for the run manifest; everything else is
made again from the log. A draw is a function of its number, so a resumed run repeats what was lost bit by bit.
"""

import json
import logging
import math
import secrets
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cloud.algorithm import Algorithm, AlgorithmConfig
from cloud.algorithms import make
from cloud.checkpoint import Checkpoints
from cloud.durable import Disk
from cloud.limiter import RateLimiter
from cloud.manifest import RunState
from cloud.outcome import fresh_counts, outcome
from cloud.schema_file import kept_schema
from cloud.shards.claims import RunClaim
from cloud.shards.reader import source_of
from cloud.staleness import Staleness, StalenessConfig, StalenessState
from cloud.store.replay import Replay, ReplayConfig
from cloud.store.source import Source
from cloud.timing import Timing
from cloud.weights import WeightStore, check_finite
from user_rl.clock import Clock
from user_rl.errors import ConfigError, NothingToDraw, StorageError, StorageFull
from user_rl.log.snapshot import Wanted
from user_rl.rows import Schema

log = logging.getLogger(__name__)


WAIT_S = 0.005  # between looks at the log when there is nothing to do
PRIORITIES = "priorities"  # an algorithm's metric [B] that is for the sampler
SAMPLER = "sampler."  # what its state is called in a checkpoint
LOOK_S = 0.02  # between looks at the log while updating
PERMIT_S = 0.1  # between two permits
FULL_AGAIN_S = 60.0  # between two lines about a full disk
PERMIT_AGAIN_S = 1.0  # a gateway that was started again knows none


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """When the learner waits, publishes, saves and stops. None: no such limit."""

    warmup_rows: int = 300  # online steps in the log before the first update
    tolerance: float = 100.0  # updates that learner and robots may be apart from the ratio
    pace_robots: bool = True  # also hold the robots to the ratio
    staleness: StalenessConfig = field(default_factory=StalenessConfig)
    publish_every: int = 100  # updates
    keep_versions: int = 10
    threads: int = 1  # of torch
    gpus: int = 0  # leased from the fleet and held through Ray; the learner runs where it is
    checkpoint_s: float = 20.0
    metrics_s: float = 1.0
    max_minutes: float | None = None  # of training time, which begins with the first update
    max_updates: int | None = None
    max_rows: int | None = None  # online steps

    def __post_init__(self) -> None:
        if self.gpus not in (0, 1):
            raise ValueError(f"gpus = {self.gpus}, allowed 0 or 1: a learner is one process; change it")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a learner works with; tests put others in."""

    make: Callable[[AlgorithmConfig, Schema, int], Algorithm] = make
    open_log: Callable[[Path], Source] = source_of
    disk: Disk = field(default_factory=Disk)


PARTS = Parts()


@dataclass(kw_only=True)
class Position:
    """How far a run has come, over all its lives."""

    updates: int = 0
    trained_s: float = 0.0
    wall_s: float = 0.0
    version: int = 0


class Learner:
    """One run's learner. `run` in one thread, until it is done or stopped; `stop` and `status` from any."""

    def __init__(
        self, run: Path, config: LearnerConfig, algorithm: AlgorithmConfig, replay: ReplayConfig, *,
        seed: int, demonstrations: int, permit: Callable[[int | None], object], clock: Clock, parts: Parts = PARTS,
    ) -> None:  # fmt: skip
        """Reads RUN/log, writes RUN/{weights, checkpoints, manifest.json, metrics.jsonl}; one process does so.

        `permit` is told how many online rows the run may hold, a few times a second, and again when it stays the same.
        """
        self._run, self._config, self._recipe, self._replay_config, self._parts = run, config, algorithm, replay, parts
        self._demonstrations, self._seed, self._tell_permit, self._clock = demonstrations, seed, permit, clock
        self.position = Position()
        self.limiter = RateLimiter(
            algorithm.update_ratio, config.warmup_rows, config.tolerance, pace_robots=config.pace_robots
        )
        self.staleness = _staleness(config, algorithm.update_ratio)
        self.weights = WeightStore(run / "weights", keep=config.keep_versions, disk=parts.disk)
        self._checkpoints = Checkpoints(run, disk=parts.disk)
        self._claim = self._claim_on(None)
        self._incarnation = secrets.token_hex(8)
        self._stopping = threading.Event()
        self._status: dict[str, Any] = {"phase": "waiting for a robot", "updates": 0, "version": 0}
        self._metrics: dict[str, Any] = {}
        self._permit: int | None = -1
        self._disk_full = self._has_updated = False
        self._look_s = self._permit_s = self._tell_full_s = -math.inf

    def stop(self) -> None:
        """Ends `run` after the update it is in; the run can go on later."""
        self._stopping.set()

    def status(self) -> dict[str, Any]:
        """The newest figures, as in metrics.jsonl."""
        return dict(self._status)

    def run(self) -> None:
        """Learns until a limit of the config is reached, or `stop`; then all of it is on disk."""
        try:
            reader, schema = self._wait_for_schema()
            if reader is not None and schema is not None:
                with closing(reader), closing(self._replay(reader, schema)) as replay:
                    self._claim = self._claim_on(reader)
                    replay.intake.online_rows += self._claim.gone_steps()
                    self._learn(replay, schema)
        finally:
            self._checkpoints.close()

    def _replay(self, source: Source, schema: Schema) -> Replay:
        return Replay(
            source, replace(self._replay_config, pictures=self._recipe.policy.sees), schema, seed=self._seed,
            demonstration_share=self._recipe.demonstration_share, max_versions=self._config.staleness.max_versions,
            run=self._run, clock=self._clock,
        )  # fmt: skip

    def _claim_on(self, source: Source | None) -> RunClaim:
        wanted = Wanted(
            online_rows=self._replay_config.capacity_rows,
            interventions=self._replay_config.interventions_are_demonstrations,
        )
        return RunClaim(self._run / "log", source, wanted)

    def _learn(self, replay: Replay, schema: Schema) -> None:
        algorithm = self._restore(replay, schema)
        self._publish(algorithm, schema)
        timing = Timing(self._clock, checkpoint_s=self._config.checkpoint_s, metrics_s=self._config.metrics_s)
        while not (done := self._is_done(replay)) and not self._stopping.is_set():
            self._take_in(replay)
            if self._may_update(replay) and self._update(algorithm, replay):
                if self.position.updates % self._config.publish_every == 0:
                    self._publish(algorithm, schema)
            else:
                self._clock.sleep_until(self._clock.now_s() + WAIT_S)
            self._count_time(timing.elapsed_s())
            if timing.checkpoint_is_due() and self._has_updated:
                self._save(algorithm, replay, schema)
            if timing.report_is_due():
                self._report(replay, timing)
        self._finish(algorithm, replay, schema, timing, done=done)

    def _wait_for_schema(self) -> tuple[Source, Schema] | tuple[None, None]:
        reader: Source | None = None
        while not self._stopping.is_set():
            try:
                reader = self._parts.open_log(self._run / "log") if reader is None else reader
                streams = {n: s for n, s in reader.streams().items() if n.endswith(f"/{self._run.name}")}
                schema = kept_schema(self._run) or next(iter(streams.values()), None)
                if schema is not None:
                    return reader, schema
            except StorageError:
                log.debug("no log yet")
            self._clock.sleep_until(self._clock.now_s() + WAIT_S)
        return None, None

    def _restore(self, replay: Replay, schema: Schema) -> Algorithm:
        """The algorithm as it was saved, or a fresh one; the log is taken in whole first."""
        algorithm = self._parts.make(self._recipe, schema, self._seed)
        while not self._stopping.is_set() and replay.advance():
            pass
        found = self._checkpoints.load()
        if found is None:
            log.info("a fresh run, seed %d", self._seed)
            return algorithm
        state, tensors = found
        _check_same(state, schema, self._seed)
        self._claim.check(state)
        algorithm.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(SAMPLER)})
        learned = {n.removeprefix(SAMPLER): t.numpy() for n, t in tensors.items() if n.startswith(SAMPLER)}
        replay.load_state_dict(learned, state.fresh)
        self.position = Position(
            updates=state.updates, trained_s=state.trained_s, wall_s=state.wall_s, version=state.weight_number
        )
        self.weights.pin([state.weight_number])
        self.limiter.resumed(replay.online_rows, state.updates, state.limiter)
        self._resume_staleness(replay, state)
        log.info("resumed at update %d with %d online rows", state.updates, replay.online_rows)
        return algorithm

    def _is_done(self, replay: Replay) -> bool:
        return _share(self._config, self.position, replay.online_rows) >= 1.0

    def _take_in(self, replay: Replay) -> None:
        now_s = self._clock.now_s()
        if now_s - self._look_s >= LOOK_S:
            self._look_s = now_s
            replay.refresh()
        permit = self._newest_permit(replay)
        if now_s - self._permit_s >= (PERMIT_S if permit != self._permit else PERMIT_AGAIN_S):
            self._permit, self._permit_s = permit, now_s
            self._tell_permit(permit)

    def _newest_permit(self, replay: Replay) -> int | None:
        """The smaller of the limiter's and the staleness's; a replay that has nothing fresh to draw gets a batch."""
        permit = self.limiter.permit(self.position.updates)
        if permit is None:
            return None
        room = self._recipe.batch_size
        if self.staleness is not None:
            permit, room = min(permit, self.staleness.permit(self._generation)), self.staleness.batch
        warm = replay.online_rows >= self._config.warmup_rows
        return max(permit, replay.online_rows + room) if warm and not self._can_sample(replay) else permit

    def _can_sample(self, replay: Replay) -> bool:
        return replay.can_sample(self.position.version, self._recipe.batch_size)

    def _resume_staleness(self, replay: Replay, state: RunState) -> None:
        if self.staleness is not None:
            rows = max(replay.online_rows, self._config.warmup_rows)
            kept = state.staleness or self.staleness.state  # of a run that had no limit yet
            self.staleness.resumed(self._generation, kept, rows)

    def _staleness_state(self, replay: Replay) -> StalenessState | None:
        if self.staleness is None:
            return None
        self.staleness.arrived(max(replay.online_rows, self._config.warmup_rows))
        return self.staleness.state

    @property
    def _generation(self) -> int:
        """Publications so far that had updates: a resume publishes again without one."""
        return self.position.updates // self._config.publish_every

    def _may_update(self, replay: Replay) -> bool:
        return (
            replay.demonstration_count >= self._demonstrations
            and self.limiter.may_update(replay.online_rows, self.position.updates)
            and self._can_sample(replay)
        )

    def _count_time(self, elapsed_s: float) -> None:
        """Training time runs from this life's first update on, waits included."""
        self.position.wall_s += elapsed_s
        self.position.trained_s += elapsed_s if self._has_updated else 0.0

    def _update(self, algorithm: Algorithm, replay: Replay) -> bool:
        recipe = self._recipe
        try:
            batch = replay.sample(self.position.updates, recipe.batch_size, self.position.version)
        except NothingToDraw as error:  # the log has just lost what there was
            log.warning("no update: %s", error)
            return False
        if self.position.updates == 0:
            algorithm.fit_normaliser(replay.observations())
        self._metrics = dict(algorithm.update(batch))
        if (priorities := self._metrics.pop(PRIORITIES, None)) is not None:
            replay.learned(self.position.updates, priorities.numpy(force=True))
        self.position.updates += 1
        self._has_updated = True
        return True

    def _publish(self, algorithm: Algorithm, schema: Schema) -> None:
        """Makes the next version; raises SpecError when the weights are not finite."""
        try:
            version = self.weights.publish(
                algorithm.policy_tensors(), algorithm.policy_spec(),
                schema=schema.digest, updates=self.position.updates, incarnation=self._incarnation,
            )  # fmt: skip
        except StorageFull as error:
            self._told_full(error)
            return
        self._disk_full = False
        self.position.version = version.number

    def _save(self, algorithm: Algorithm, replay: Replay, schema: Schema) -> None:
        """Hands a copy of everything to the writer's thread; a full disk leaves the checkpoint before.

        Raises SpecError for a state that is not finite: a resume from it could only fail.
        """
        position, tensors = self.position, algorithm.state_dict()
        learned = replay.state_dict(position.updates)
        tensors = tensors | {SAMPLER + name: torch.from_numpy(value.copy()) for name, value in learned.items()}
        check_finite({name: tensor.numpy() for name, tensor in tensors.items()})
        named = self._checkpoints.manifest()
        held = self._claim.take(replay.seq, named.state if named else None)
        state = RunState(
            snapshot=held.pop(0, None), shards=held,
            updates=position.updates, draws=position.updates, log_seq=replay.seq, limiter=self.limiter.state,
            columns=replay.columns, staleness=self._staleness_state(replay), fresh=replay.fresh(position.updates),
            weight_number=position.version, trained_s=position.trained_s, wall_s=position.wall_s,
            incarnation=self._incarnation, seed=self._seed, schema=schema.digest,
        )  # fmt: skip
        try:
            if self._checkpoints.save(state, tensors):
                named = self._checkpoints.manifest()  # still the one before, or this one already
                self.weights.pin([position.version, *([named.state.weight_number] if named else [])])
        except StorageFull as error:
            self._told_full(error)

    def _finish(self, algorithm: Algorithm, replay: Replay, schema: Schema, timing: Timing, *, done: bool) -> None:
        if self._has_updated:
            self._publish(algorithm, schema)
            self._wait_for_writer()
            self._save(algorithm, replay, schema)
            self._wait_for_writer()
        self._report(replay, timing, phase="done" if done else "stopped")
        log.info("%s at update %d, version %d", self._status["phase"], self.position.updates, self.position.version)

    def _wait_for_writer(self) -> None:
        try:
            self._checkpoints.wait()
        except StorageFull as error:
            self._told_full(error)

    def _told_full(self, error: StorageFull) -> None:
        self._disk_full = True
        if self._clock.now_s() >= self._tell_full_s:
            self._tell_full_s = self._clock.now_s() + FULL_AGAIN_S
            log.error("nothing is published or saved until there is space: %s", error)

    def _report(self, replay: Replay, timing: Timing, *, phase: str | None = None) -> None:
        """One line of metrics.jsonl, and the same as status; only here are the metrics brought to the host."""
        position = self.position
        status = {
            "phase": phase or self._phase(replay), "updates": position.updates, "version": position.version,
            "trained_s": round(position.trained_s, 3), "wall_s": round(position.wall_s, 3),
            "finished_share": round(min(1.0, _share(self._config, position, replay.online_rows)), 4),
            "update_ratio": position.updates / max(1, replay.online_rows - self._config.warmup_rows),
            "permit": self._permit, "disk_full": self._disk_full, "incarnation": self._incarnation,
            **outcome(replay, position.version), **fresh_counts(replay.fresh(position.updates)),
            **timing.rates(position.updates, replay.online_rows),
            "metrics": {name: float(value) for name, value in self._metrics.items()},
        }  # fmt: skip
        self._status = status
        try:
            with (self._run / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(status) + "\n")
        except OSError as error:
            if not self._disk_full:
                log.error("metrics.jsonl is not written: %s; free some space", error)

    def _phase(self, replay: Replay) -> str:
        if replay.demonstration_count < self._demonstrations:
            return f"waiting for demonstrations {replay.demonstration_count}/{self._demonstrations}"
        if replay.online_rows < self._config.warmup_rows:
            return "warming up"
        return "learning"


def _staleness(config: LearnerConfig, update_ratio: float) -> Staleness | None:
    """None: the config sets no limit. A version consumes the rows that its updates are due for."""
    eta = config.staleness.max_versions
    if eta is None:
        return None
    return Staleness(eta, math.ceil(config.publish_every / update_ratio), origin=config.warmup_rows)


def _share(config: LearnerConfig, position: Position, rows: int) -> float:
    """How much of the nearest limit is used up; 1 ends the run."""
    limits = [
        (position.trained_s / 60, config.max_minutes), (position.updates, config.max_updates), (rows, config.max_rows)
    ]  # fmt: skip
    return max((used / limit if limit else 1.0 for used, limit in limits if limit is not None), default=0.0)


def _check_same(state: RunState, schema: Schema, seed: int) -> None:
    for name, saved, now in (("schema", state.schema, schema.digest), ("seed", state.seed, seed)):
        if saved != now:
            raise ConfigError(
                f"{name} = {now}, allowed {saved}, which the run began with; set it back, or name a new run"
            )
