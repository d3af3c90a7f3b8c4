import json
import logging
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from cloud.algorithms.rlpd import Rlpd, RlpdConfig
from cloud.batch import Batch
from cloud.checkpoint import Checkpoints
from cloud.durable import Disk
from cloud.learner import Learner, LearnerConfig, Parts
from cloud.staleness import StalenessConfig, StalenessState
from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import MemoryLog, episode_rows, state_schema
from cloud.weights import WeightStore
from policies.config import PolicyConfig
from user_rl.clock import FakeClock
from user_rl.errors import ConfigError, SpecError, StorageCorrupt
from user_rl.log import Log
from user_rl.log.chunk import ChunkRef
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

pytestmark = pytest.mark.slow
torch.set_num_threads(1)  # as in the learner's process; two, beside other tests, wait for each other
SCHEMA = state_schema()
STREAM = "a/1/run"
ALGORITHM = RlpdConfig(policy=PolicyConfig(hidden=(8,)), critic_hidden=(8,), batch_size=8, update_ratio=2.0)
CONFIG = LearnerConfig(warmup_rows=50, tolerance=20.0, publish_every=10, max_updates=40)


class TickingClock(FakeClock):
    """Time goes on a little with every look at it; after `patience` waits in a row it calls `at_rest`."""

    def __init__(self, at_rest: Callable[[], None] | None = None, *, tick_s: float = 1e-3, patience: int = 20) -> None:
        super().__init__()
        self.at_rest, self._tick_s, self._patience, self._waits = at_rest, tick_s, patience, 0

    def now_s(self) -> float:
        self.advance(self._tick_s)
        return super().now_s()

    def sleep_until(self, deadline_s: float) -> None:
        self.sleeps_s.clear()
        self._waits += 1
        if self._waits % self._patience == 0 and self.at_rest is not None:
            self.at_rest()
        super().sleep_until(deadline_s)


def rows_of(episodes: int, *, demonstrations: int = 3, first: int = 0, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [
        episode_rows(
            SCHEMA, rng, length=9, first_step=10 * n, number=n,
            klass=Klass.DEMONSTRATION if n < demonstrations else Klass.ONLINE,
        )
        for n in range(first, first + episodes)
    ]  # fmt: skip


def memory_log(episodes: int, *, demonstrations: int = 3) -> MemoryLog:
    log = MemoryLog(SCHEMA)
    for rows in rows_of(episodes, demonstrations=demonstrations):
        log.add(STREAM, rows)
    return log


def write_log(run: Path, episodes: int = 30) -> None:
    with Log(run / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        for rows in rows_of(episodes):
            log.append(STREAM, rows)
            log.commit()


def learner(run: Path, config: LearnerConfig = CONFIG, *, log: MemoryLog | None = None, **changes: Any) -> Learner:  # noqa: ANN401
    run.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {name: changes.pop(name) for name in ("make", "disk") if name in changes}
    if log is not None:
        parts["open_log"] = lambda _: log
    given = {"seed": 5, "demonstrations": 3, "permit": lambda _: None, "clock": TickingClock(), **changes}
    given["parts"] = Parts(**parts)
    return Learner(run, config, ALGORITHM, given.pop("replay", ReplayConfig(capacity_rows=1000)), **given)


def resting(run: Path, log: MemoryLog, config: LearnerConfig | None = None, **changes: Any) -> Learner:  # noqa: ANN401
    """A learner that was run until it had nothing to do for a while."""
    clock = TickingClock()
    config = config or LearnerConfig(warmup_rows=50, tolerance=20.0, publish_every=10)
    found = learner(run, config, log=log, clock=clock, **changes)
    clock.at_rest = found.stop
    found.run()
    return found


def final_state(run: Path) -> dict[str, torch.Tensor]:
    found = Checkpoints(run).load()
    assert found is not None
    return found[1]


def test_a_run_ends_with_everything_on_disk(tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_log(run)
    one = learner(run)
    one.run()
    manifest = Checkpoints(run).manifest()
    assert manifest is not None
    assert (manifest.state.updates, manifest.state.draws, manifest.state.seed) == (40, 40, 5)
    store = WeightStore(run / "weights")
    newest = store.newest()
    assert newest is not None
    assert (newest.number, newest.updates, newest.schema) == (6, 40, SCHEMA.digest)  # 0, 10, 20, 30, 40 and the end
    assert manifest.state.weight_number == 6
    states = np.concatenate(rows_of(30))["observation.state"]
    assert np.allclose(store.load(6)[1]["normaliser.mean"], states.mean(axis=0), atol=1e-5)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == one.status()
    status = one.status()
    assert (status["phase"], status["updates"], status["version"], status["finished_share"]) == ("done", 40, 6, 1.0)
    assert (status["episodes"], status["env_steps"], status["success_rate"]) == (27, 243, 1.0)
    assert (status["demonstrations"], status["buffer_rows"], status["version_lag"]) == (3, 300, 5.0)
    assert status["update_ratio"] == pytest.approx(40 / (243 - 50))
    assert {"critic_loss", "actor_loss"} <= status["metrics"].keys()
    assert all(np.isfinite(value) for value in status["metrics"].values())


def test_a_resumed_run_is_bit_identical_to_one_that_never_stopped(tmp_path: Path) -> None:
    whole, parted = tmp_path / "whole" / "run", tmp_path / "parted" / "run"
    write_log(whole)
    shutil.copytree(whole / "log", parted / "log")
    learner(whole).run()
    for updates in (7, 23, 40):
        learner(parted, LearnerConfig(warmup_rows=50, tolerance=100.0, publish_every=10, max_updates=updates)).run()
    expected, found = final_state(whole), final_state(parted)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


class _Watched(Rlpd):
    """Calls `watch` before each update."""

    watch: Callable[[Batch], None]

    def update(self, batch: Batch) -> dict[str, torch.Tensor]:
        self.watch(batch)
        return super().update(batch)


def watched(watch: Callable[[Batch], None]) -> Callable[[object, Schema, int], Rlpd]:
    def make(config: object, schema: Schema, seed: int) -> Rlpd:
        found = _Watched(ALGORITHM, schema, seed)
        found.watch = watch
        return found

    return make


def test_update_n_learns_from_draw_n(tmp_path: Path) -> None:
    seen: list[bytes] = []
    learner(tmp_path / "run", log=memory_log(30), make=watched(lambda b: seen.append(b.action.tobytes()))).run()
    replay = Replay(memory_log(30), ReplayConfig(capacity_rows=1000), SCHEMA, seed=5, demonstration_share=0.5)
    replay.refresh()
    assert seen == [replay.sample(n, 8).action.tobytes() for n in range(40)]


def test_rows_of_another_run_are_not_waited_for_nor_learned_from(tmp_path: Path) -> None:
    log = MemoryLog(SCHEMA)
    log.add("a/1/other", rows_of(1)[0])
    clock = TickingClock()
    one = learner(tmp_path / "run", log=log, clock=clock)
    clock.at_rest = one.stop
    one.run()
    assert one.status()["phase"] == "waiting for a robot"


class _Damaged(MemoryLog):
    """Rows from the eleventh chunk on, or all, cannot be read."""

    def __init__(self, sound: int) -> None:
        super().__init__(SCHEMA)
        self._sound = sound
        for rows in rows_of(30):
            self.add(STREAM, rows)

    def plain(self, ref: ChunkRef, *, check: bool = True) -> Array:
        if check and ref.seq > self._sound:
            raise StorageCorrupt(f"chunk {ref.seq} is damaged")
        return super().plain(ref, check=check)


def test_damage_in_the_log_does_not_end_the_learner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert resting(tmp_path / "some" / "run", _Damaged(10), CONFIG).position.updates == 40
    assert len([r for r in caplog.records if "its rows are not learned from any more" in r.message]) == 20
    caplog.clear()
    assert resting(tmp_path / "all" / "run", _Damaged(0), CONFIG).position.updates == 0
    told = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("no update: none of ")


class _SlowDisk(Disk):
    def __init__(self, checkpoint_s: float) -> None:
        self._checkpoint_s = checkpoint_s

    def write(self, path: Path, data: bytes) -> None:
        if path.name == "algorithm.safetensors":
            time.sleep(self._checkpoint_s)
        super().write(path, data)


def test_the_last_state_is_saved_even_while_one_before_is_being_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    learner(run, replace(CONFIG, checkpoint_s=0.001), log=memory_log(30), disk=_SlowDisk(1.0)).run()
    manifest = Checkpoints(run).manifest()
    assert manifest is not None
    assert manifest.state.updates == 40


def test_the_first_version_is_there_before_any_update_and_every_life_begins_with_one(tmp_path: Path) -> None:
    first = resting(tmp_path / "run", memory_log(4))
    assert (first.status()["updates"], first.status()["version"]) == (0, 1)
    assert resting(tmp_path / "run", memory_log(4)).status()["version"] == 2


def test_updates_wait_for_the_demonstrations_and_then_for_the_warm_up(tmp_path: Path) -> None:
    log = MemoryLog(SCHEMA)
    rows = rows_of(20)
    for part in (*rows[:2], *rows[3:]):
        log.add(STREAM, part)
    waiting = resting(tmp_path / "a" / "run", log)
    assert waiting.status()["updates"] == 0
    phases = [json.loads(s)["phase"] for s in (tmp_path / "a" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert phases[0] == "waiting for demonstrations 2/3"
    assert resting(tmp_path / "b" / "run", memory_log(8)).status()["updates"] == 0  # 45 of 50 rows
    phases = [json.loads(s)["phase"] for s in (tmp_path / "b" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert phases == ["warming up", "stopped"]
    assert resting(tmp_path / "c" / "run", memory_log(9)).status()["updates"] == 2 * (54 - 50) + 20


def test_no_burst_follows_a_resume(tmp_path: Path) -> None:
    before = resting(tmp_path / "run", memory_log(13))
    updates = before.status()["updates"]
    assert updates == 2 * (90 - 50) + 20
    after = resting(tmp_path / "run", memory_log(113))  # 900 rows came while the learner was dead
    assert after.status()["updates"] == updates + 20
    again = resting(tmp_path / "run", memory_log(114))
    assert again.status()["updates"] <= updates + 40


def test_the_warm_up_is_not_skipped_when_the_log_was_emptied(tmp_path: Path) -> None:
    run = tmp_path / "run"
    updates = resting(run, memory_log(13)).status()["updates"]
    emptied = resting(run, memory_log(8))
    assert emptied.status()["updates"] == updates
    assert emptied.limiter.permit(updates) == 50 + 10
    assert 0 < resting(run, memory_log(14)).status()["updates"] - updates <= 20


def test_rows_that_come_while_it_learns_are_learned_from(tmp_path: Path) -> None:
    log, rows = memory_log(9), rows_of(20, first=9)
    clock = TickingClock()
    one = learner(tmp_path / "run", LearnerConfig(warmup_rows=50, tolerance=20.0), log=log, clock=clock)

    def feed() -> None:
        if rows:
            log.add(STREAM, rows.pop(0))
        else:
            one.stop()

    clock.at_rest = feed
    one.run()
    assert one.status()["env_steps"] == 26 * 9
    assert one.status()["updates"] == 2 * (26 * 9 - 50) + 20


def test_the_permit_is_told_and_told_again(tmp_path: Path) -> None:
    told: list[int | None] = []
    clock = TickingClock(patience=1000)
    one = learner(tmp_path / "run", LearnerConfig(warmup_rows=50, tolerance=20.0), log=memory_log(9), clock=clock,
                  permit=told.append)  # fmt: skip
    clock.at_rest = one.stop
    one.run()
    assert told[0] == 50 + 20 // 2
    assert told[-1] == 50 + (28 + 20) // 2 == one.limiter.permit(28)
    assert told.count(told[-1]) > 3


def test_training_time_runs_from_the_first_update_and_over_all_lives(tmp_path: Path) -> None:
    run, config = tmp_path / "run", LearnerConfig(warmup_rows=50, tolerance=20.0, max_minutes=1.0)
    assert resting(run, memory_log(4), config).status()["trained_s"] == 0.0
    first = resting(run, memory_log(9), config)
    spent_s = first.status()["trained_s"]
    assert 0.0 < spent_s < 60.0
    assert first.status()["wall_s"] >= spent_s
    last = learner(run, config, log=memory_log(10), clock=TickingClock(tick_s=0.05))
    last.run()
    assert last.status()["phase"] == "done"
    assert 60.0 <= last.status()["trained_s"] < 62.0
    again = learner(run, config, log=memory_log(10))
    again.run()
    assert again.status()["updates"] == last.status()["updates"]


def test_a_run_can_be_bounded_by_rows(tmp_path: Path) -> None:
    one = learner(tmp_path / "run", LearnerConfig(warmup_rows=50, tolerance=20.0, max_rows=54), log=memory_log(9))
    one.run()
    assert one.status()["phase"] == "done"


class _Diverging(Rlpd):
    def policy_tensors(self) -> dict[str, Array]:
        tensors = super().policy_tensors()
        if int(self._updates) >= 20:
            tensors[next(iter(tensors))].flat[0] = np.nan
        return tensors


def test_weights_that_are_not_finite_end_the_run_and_are_never_published(tmp_path: Path) -> None:
    def diverging(config: object, schema: Schema, seed: int) -> Rlpd:
        return _Diverging(ALGORITHM, schema, seed)

    run = tmp_path / "run"
    with pytest.raises(
        SpecError, match=r"^weights \S+: 1 of \d+ elements are not finite, allowed none; nothing was publ"
    ):
        learner(run, log=memory_log(30), make=diverging).run()
    newest = WeightStore(run / "weights").newest()
    assert newest is not None
    assert newest.updates == 10


class _Poisoned(Rlpd):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "critics.bad": torch.tensor([torch.inf])}


def test_a_state_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    def poisoned(config: object, schema: Schema, seed: int) -> Rlpd:
        return _Poisoned(ALGORITHM, schema, seed)

    with pytest.raises(SpecError, match=r"^weights critics\.bad: 1 of 1 elements"):
        learner(tmp_path / "run", log=memory_log(30), make=poisoned).run()
    assert Checkpoints(tmp_path / "run").load() is None


class _FullDisk(Disk):
    full = False

    def write(self, path: Path, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(path, data)


def test_a_full_disk_is_one_line_and_learning_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk, run = _FullDisk(), tmp_path / "run"
    log, clock = memory_log(9), TickingClock()
    one = learner(
        run, LearnerConfig(warmup_rows=50, tolerance=20.0, publish_every=5, checkpoint_s=0.01, max_updates=60),
        log=log, clock=clock, disk=disk,
    )  # fmt: skip

    def rest() -> None:
        if not disk.full:
            assert one.weights.highest() > 1
            disk.full = True
            log.add(STREAM, rows_of(1, first=9)[0])
        elif rest_again.pop():
            disk.full = False
            log.add(STREAM, rows_of(1, first=10)[0])

    rest_again = [True] * 9
    clock.at_rest = rest
    one.run()
    assert one.status()["updates"] == 60
    errors = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith("nothing is published or saved until there is space: ")
    found = Checkpoints(run).manifest()
    assert found is not None
    assert found.state.updates == 60
    newest = WeightStore(run / "weights").newest()
    assert newest is not None
    assert newest.updates == 60


def test_another_schema_or_seed_is_not_resumed(tmp_path: Path) -> None:
    resting(tmp_path / "run", memory_log(9))
    message = "seed = 6, allowed 5, which the run began with; set it back, or name a new run"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        resting(tmp_path / "run", memory_log(9), seed=6)


def test_a_learner_without_a_log_waits_and_can_be_stopped(tmp_path: Path) -> None:
    clock = TickingClock()
    one = learner(tmp_path / "run", clock=clock)
    clock.at_rest = one.stop
    one.run()
    assert one.status()["phase"] == "waiting for a robot"


def test_the_version_that_the_manifest_names_is_kept_while_it_learns(tmp_path: Path) -> None:
    run = tmp_path / "run"
    named = []

    def watch(_: Batch) -> None:
        manifest = msgspec.json.decode((run / "manifest.json").read_bytes()) if (run / "manifest.json").exists() else {}
        if manifest:
            named.append(manifest["state"]["weight_number"])
            assert named[-1] in WeightStore(run / "weights").numbers()

    config = replace(CONFIG, publish_every=1, keep_versions=2, checkpoint_s=0.01, max_updates=200)
    learner(run, config, log=memory_log(30), make=watched(watch), disk=_SlowDisk(0.03)).run()
    assert len(set(named)) > 1


def test_the_versions_that_the_manifest_names_are_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = LearnerConfig(warmup_rows=50, tolerance=20.0, publish_every=1, keep_versions=2, checkpoint_s=1e9)
    named = resting(run, memory_log(9), config).status()["version"]
    one = resting(run, memory_log(20), LearnerConfig(
        warmup_rows=50, tolerance=20.0, publish_every=1, keep_versions=2, checkpoint_s=1e9, max_updates=40
    ))  # fmt: skip
    assert named in WeightStore(run / "weights").numbers()
    assert one.status()["version"] in WeightStore(run / "weights").numbers()


VICTIM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_learner import LearnerConfig, learner
from user_rl.clock import SystemClock
config = LearnerConfig(warmup_rows=50, tolerance=1e6, publish_every=20, checkpoint_s=0.05, max_updates=int(sys.argv[3]))
learner(Path(sys.argv[1]), config, clock=SystemClock()).run()
"""


def _victim(run: Path, updates: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", VICTIM, str(run), str(Path(__file__).parent), str(updates)])


def test_a_learner_that_is_killed_twice_ends_where_an_unharmed_one_does(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
    write_log(whole)
    shutil.copytree(whole / "log", killed / "log")
    updates = 400
    learner(whole, LearnerConfig(warmup_rows=50, tolerance=1e6, publish_every=20, max_updates=updates)).run()
    seen = 0
    for _ in range(2):
        with _victim(killed, updates) as process:
            while process.poll() is None:
                manifest = Checkpoints(killed).manifest()
                if manifest is not None and manifest.state.updates >= seen + 20:
                    process.send_signal(signal.SIGKILL)
                    break
        manifest = Checkpoints(killed).manifest()
        assert manifest is not None
        seen = manifest.state.updates
    assert seen > 0
    with _victim(killed, updates) as process:
        assert process.wait(60) == 0
    expected, found = final_state(whole), final_state(killed)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_the_permit_is_the_smaller_of_the_limiters_and_the_stalenesss(tmp_path: Path) -> None:
    told: list[int | None] = []
    fresh = LearnerConfig(
        warmup_rows=50, tolerance=20.0, publish_every=10, staleness=StalenessConfig(max_versions=0)
    )  # fmt: skip
    one = resting(tmp_path / "run", memory_log(10), fresh, permit=told.append)
    updates = one.position.updates
    assert updates == 46  # 2 * (63 - 50) + 20
    assert told[-1] == 50 + (updates // 10 + 1) * 5  # 10 updates between versions take 5 rows
    assert told[-1] < (one.limiter.permit(updates) or 0)
    manifest = Checkpoints(tmp_path / "run").manifest()
    assert manifest is not None
    assert manifest.state.staleness == StalenessState(origin=50.0, accepted=13.0)
    again = resting(tmp_path / "run", memory_log(30), fresh, permit=told.append)
    assert again.staleness is not None
    assert again.staleness.state.accepted == (updates // 10) * 5  # 243 rows that nobody permitted are no debt
    assert told[-1] == 243 + (again.position.updates // 10 - updates // 10 + 1) * 5


def test_robots_are_let_on_while_nothing_in_the_replay_is_fresh_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replay, "can_sample", lambda self, version=0, size=1: self.online_rows < 200)
    told: list[int | None] = []
    fresh = LearnerConfig(
        warmup_rows=50, tolerance=20.0, publish_every=10, staleness=StalenessConfig(max_versions=0)
    )  # fmt: skip
    resting(tmp_path / "run", memory_log(30), fresh, permit=told.append)
    assert told[-1] == 243 + 5


def test_a_manifest_from_before_staleness_and_columns_is_read(tmp_path: Path) -> None:
    run = tmp_path / "run"
    resting(run, memory_log(10))
    tree = json.loads((run / "manifest.json").read_text())
    for name in ("staleness", "fresh", "columns"):
        del tree["state"][name]
    (run / "manifest.json").write_text(json.dumps(tree))
    manifest = Checkpoints(run).manifest()
    assert manifest is not None
    assert (manifest.state.staleness, manifest.state.fresh, manifest.state.columns) == (None, None, {})
    config = LearnerConfig(warmup_rows=50, tolerance=20.0, publish_every=10, staleness=StalenessConfig(max_versions=1))
    again = resting(run, memory_log(10), config)
    assert again.staleness is not None
    assert again.staleness.state.accepted == 20  # of 13 rows, not less than the 4 versions have used


def queued(ahead: int, max_versions: int = 100) -> ReplayConfig:
    return ReplayConfig(capacity_rows=1000, sampler={"name": "on_policy", "max_versions": max_versions}, ahead=ahead)


class _Killed(Exception):
    pass


def seen_by(run: Path, replay: ReplayConfig, *, die_at: int | None = None) -> list[bytes]:
    """The actions of each batch that a learner has, which dies before update number `die_at` of its life."""
    seen: list[bytes] = []

    def watch(batch: Batch) -> None:
        if len(seen) == die_at:
            raise _Killed
        seen.append(batch.action.tobytes())

    config = LearnerConfig(warmup_rows=50, tolerance=100.0, publish_every=10, max_updates=25, checkpoint_s=0.02)
    disk = _SlowDisk(0.2 if die_at else 0.0)  # what is saved is older than what was learned when it dies
    one = learner(run, config, log=memory_log(30), make=watched(watch), replay=replay, disk=disk)
    with suppress(_Killed):
        one.run()
    return seen


@pytest.mark.parametrize("ahead", [0, 3])
def test_a_killed_learner_goes_on_with_the_on_policy_data_that_it_had_not_learned_from(
    tmp_path: Path, ahead: int
) -> None:
    whole = seen_by(tmp_path / "whole" / "run", queued(ahead))
    assert len(whole) == 25
    taken = np.concatenate([np.frombuffer(b, np.float32).reshape(8, -1) for b in whole])
    assert len(np.unique(taken, axis=0)) == 25 * 8  # nothing twice
    run, resumed = tmp_path / "killed" / "run", []
    for die_at in (9, 8, None):
        manifest = Checkpoints(run).manifest()
        resumed.append(0 if manifest is None else manifest.state.updates)
        assert seen_by(run, queued(ahead), die_at=die_at) == whole[resumed[-1] :][:die_at]
    assert 0 < resumed[1] <= resumed[2] < 17
    ends = [Checkpoints(path).manifest() for path in (tmp_path / "whole" / "run", run)]
    queues = [end.state.fresh for end in ends if end is not None]
    assert queues[0] is not None
    assert queues[0] == queues[1]
    assert (queues[0].arrived, queues[0].taken, queues[0].taken_rows) == (27, 22, 25 * 8)


def test_a_learner_that_has_nothing_fresh_waits_and_lets_the_robots_on(tmp_path: Path) -> None:
    told: list[int | None] = []
    one = resting(tmp_path / "run", memory_log(30), replay=queued(0), permit=told.append)
    assert one.position.updates == 243 // 8
    status = one.status()
    counts = [status[f"fresh_{name}"] for name in ("waiting", "taken", "expired", "refused")]
    assert counts == [1, 26, 0, 0]
    assert told[-1] == max(243 + 8, one.limiter.permit(30) or 0)
    stale = resting(tmp_path / "stale" / "run", memory_log(30), replay=queued(0, max_versions=0))
    assert stale.position.updates == 10  # the second version makes version 1 too old
    manifest = Checkpoints(tmp_path / "stale" / "run").manifest()
    assert manifest is not None
    assert manifest.state.fresh is not None
    assert manifest.state.fresh.taken_rows == 10 * 8
