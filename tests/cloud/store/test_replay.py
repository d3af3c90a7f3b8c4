import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.batch import Batch
from cloud.outcome import outcome
from cloud.store.intake import CHUNKS
from cloud.store.replay import Replay, ReplayConfig, machine_memory_bytes
from cloud.store.sampler import Moment, Pool
from cloud.store.samplers.demonstrations import _Succeeded
from cloud.store.source import Source
from cloud.testing import MemoryLog, episode_rows, state_schema
from user_rl.errors import ConfigError
from user_rl.log import Log, Reader
from user_rl.log.chunk import ChunkRef
from user_rl.rows import Kind, Klass, Schema, make_schema
from user_rl.specs import Array, Image

SCHEMA = state_schema()
STATE = "observation.state"
Key = tuple[bytes, bytes, float, bool, bytes]  # s, a, r, done, s'


def make_replay(
    log: Source, *, capacity: int = 1000, interventions: bool = True, seed: int = 3, schema: Schema = SCHEMA,
    share: float = 0.5, run: Path | None = None, **more: Any,  # noqa: ANN401
) -> Replay:  # fmt: skip
    more.setdefault("ahead", 0)  # what is drawn ahead does not see what comes in the meantime
    config = ReplayConfig(capacity_rows=capacity, interventions_are_demonstrations=interventions, **more)
    replay = Replay(log, config, schema, seed=seed, demonstration_share=share, run=run)
    replay.catch_up()
    return replay


def pools(replay: Replay, capacity: int = 1000, *, interventions: bool = True) -> tuple[Array, Array]:
    """What can be drawn: online, and as a demonstration; row numbers."""
    end = len(replay.index)
    at = Moment(index=replay.index, end=end, number=0, capacity_rows=capacity)
    shown = at.within(_Succeeded()).of(Pool.SHOWN if interventions else Pool.DEMONSTRATIONS)
    return at.online.matching(), shown.matching()


def of_rows(replay: Replay, log: MemoryLog, rows: Array) -> set[Key]:
    """The transitions that begin at `rows`."""
    everything = np.concatenate([records for _, records in log.chunks])
    return {key_of(everything[row], everything[replay.index.next.array[row]]) for row in rows.tolist()}


def keys(batch: Batch) -> list[Key]:
    parts = (batch.observation[STATE], batch.action, batch.reward, batch.done, batch.next_observation[STATE])
    return [(s.tobytes(), a.tobytes(), float(r), bool(d), n.tobytes()) for s, a, r, d, n in zip(*parts, strict=True)]


def key_of(row: np.void, following: np.void) -> Key:
    reward, done = float(row["next.reward"]), bool(row["next.done"])
    return row[STATE].tobytes(), row["action"].tobytes(), reward, done, following[STATE].tobytes()


@dataclass
class Reference:
    """The same rules, row by row and slowly."""

    capacity: int
    online: list[tuple[str, np.void]] = field(default_factory=list)
    shown: list[list[np.void]] = field(default_factory=list)

    def add(self, stream: str, rows: Array) -> None:
        if rows["klass"][0] == Klass.ONLINE:
            self.online += [(stream, row) for row in rows]
        else:
            self.shown.append(list(rows))

    def online_transitions(self) -> set[Key]:
        kept = self.online[-self.capacity :]
        return {key_of(a, b) for s, a in kept for t, b in kept if s == t and _follows(a, b)}

    def interventions(self) -> set[Key]:
        pairs = ((a, b) for s, a in self.online for t, b in self.online if s == t and _follows(a, b))
        return {key_of(a, b) for a, b in pairs if a["is_intervention"]}

    def demonstrations(self) -> set[Key]:
        whole = [rows for rows in self.shown if any(r["next.success"] for r in rows) and rows[-1]["kind"] == Kind.LAST]
        return {key_of(a, b) for rows in whole for a in rows for b in rows if _follows(a, b)}


def _follows(a: np.void, b: np.void) -> bool:
    return bool(a["kind"] == Kind.STEP and a["episode"] == b["episode"] and int(a["step"]) + 1 == int(b["step"]))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, Array]]:
    """Chunks of up to three streams, interleaved: whole, truncated, cut and holed episodes, of both classes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    queues: dict[str, list[Array]] = {}
    for stream in ("a/1/run", "b/1/run", "c/1/run")[: draw(st.integers(1, 3))]:
        step = 0
        for number in range(draw(st.integers(1, 5))):
            length = draw(st.integers(1, 8))
            klass = draw(st.sampled_from([Klass.ONLINE, Klass.ONLINE, Klass.DEMONSTRATION]))
            rows = episode_rows(
                SCHEMA, rng, length=length, first_step=step, number=number, klass=klass, success=draw(st.booleans()),
                interventions=draw(st.lists(st.integers(0, length - 1))) if klass == Klass.ONLINE else (),
            )  # fmt: skip
            step += length + 1
            fate = draw(st.sampled_from(["whole", "whole", "cut", "hole"]))
            if fate == "cut":
                rows = rows[: draw(st.integers(1, length))]
                step = int(rows["step"][-1]) + 1
            pieces = list(_pieces(draw, rows))
            if fate == "hole" and len(pieces) > 2 and klass == Klass.ONLINE:
                del pieces[1]
            queues.setdefault(stream, []).extend(pieces)
    found = []
    while queues:
        stream = draw(st.sampled_from(sorted(queues)))
        found.append((stream, queues[stream].pop(0)))
        queues = {name: rest for name, rest in queues.items() if rest}
    return found


def _pieces(draw: st.DrawFn, rows: Array) -> Iterator[Array]:
    cuts = sorted({0, len(rows), *draw(st.lists(st.integers(0, len(rows)), max_size=3))})
    for start, end in pairwise(cuts):
        yield rows[start:end]


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(histories(), st.integers(2, 40), st.booleans())
def test_only_true_transitions_are_drawn_and_every_one_can_be(
    history: list[tuple[str, Array]], capacity: int, interventions: bool
) -> None:
    log, reference = MemoryLog(SCHEMA), Reference(capacity)
    replays = {
        share: make_replay(log, capacity=capacity, interventions=interventions, share=share) for share in (0.0, 1.0)
    }
    demonstrations: dict[tuple[str, int], list[Array]] = {}
    for n, (stream, rows) in enumerate(history):
        log.add(stream, rows)
        if rows["klass"][0] == Klass.ONLINE:
            reference.add(stream, rows)
        else:
            demonstrations.setdefault((stream, int(rows["episode"][0])), []).append(rows)
            reference.shown = [list(np.concatenate(parts)) for parts in demonstrations.values()]
        online = reference.online_transitions()
        shown = reference.demonstrations() | (reference.interventions() if interventions else set())
        for share, replay in replays.items():
            replay.catch_up()
            if wanted := (shown if share else online):
                assert set(keys(replay.sample(n, 200 * len(wanted)))) == wanted
        found = pools(replays[0.0], capacity, interventions=interventions)
        assert [of_rows(replay, log, rows) for rows in found] == [online, shown]
    assert replays[0.0].online_rows == sum(row["kind"] == Kind.STEP for _, row in reference.online)


def filled(episodes: int = 30, *, demonstrations: int = 5, length: int = 9, schema: Schema = SCHEMA) -> MemoryLog:
    log, rng = MemoryLog(schema), np.random.default_rng(0)
    for n in range(episodes + demonstrations):
        klass = Klass.DEMONSTRATION if n < demonstrations else Klass.ONLINE
        log.add(
            "a/1/run",
            episode_rows(schema, rng, length=length, first_step=n * (length + 1), number=n, klass=klass),
        )
    return log


def test_the_mixture_is_exact_and_the_demonstrations_come_first() -> None:
    demonstrations = set(keys(make_replay(filled(), share=1.0).sample(0, 4000)))
    for share, count in [(0.5, 32), (0.25, 16), (0.0, 0), (1.0, 64), (0.3, 19)]:
        found = [key in demonstrations for key in keys(make_replay(filled(), share=share).sample(1, 64))]
        assert found == [True] * count + [False] * (64 - count)


def test_a_side_that_is_empty_leaves_its_part_to_the_other() -> None:
    only_shown, only_online = make_replay(filled(0), share=0.0), make_replay(filled(demonstrations=0))
    assert set(keys(only_shown.sample(1, 500))) == set(keys(make_replay(filled(0), share=1.0).sample(2, 500)))
    assert len(keys(only_online.sample(1, 64))) == 64
    assert only_shown.can_sample()
    assert not make_replay(MemoryLog(SCHEMA)).can_sample()


def test_a_draw_depends_on_seed_number_and_horizon_alone() -> None:
    first, second, other = make_replay(filled()), make_replay(filled()), make_replay(filled(), seed=4)
    first.sample(1, 64)
    assert keys(first.sample(2, 64)) == keys(second.sample(2, 64))
    assert keys(first.sample(2, 64)) != keys(first.sample(3, 64))
    assert keys(first.sample(2, 64)) != keys(other.sample(2, 64))
    assert keys(first.sample(2, 64)) != keys(make_replay(filled(31)).sample(2, 64))


def test_every_transition_is_as_likely_as_another() -> None:
    replay = make_replay(filled(10, demonstrations=0), share=0.0)
    counts: dict[Key, int] = {}
    for key in keys(replay.sample(0, 90_000)):
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 90
    assert max(abs(n - 1000) for n in counts.values()) < 6 * 1000**0.5


def test_a_termination_is_done_and_a_time_limit_is_not() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    log.add("a/1/run", terminated := episode_rows(SCHEMA, rng, length=1))
    log.add("b/1/run", truncated := episode_rows(SCHEMA, rng, length=1, success=False))
    found = set(keys(make_replay(log, share=0.0).sample(0, 64)))
    assert found == {key_of(*terminated), key_of(*truncated)}
    assert {(key[3], key[2]) for key in found} == {(True, 1.0), (False, 0.0)}


def test_demonstrations_are_never_evicted_and_failed_ones_never_drawn() -> None:
    log = filled(0, demonstrations=700, length=9)
    rng = np.random.default_rng(1)
    log.add("b/1/run", episode_rows(SCHEMA, rng, length=9, klass=Klass.DEMONSTRATION, success=False))
    for n in range(20):
        log.add("b/2/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
    replay = make_replay(log, capacity=30)
    assert [len(rows) for rows in pools(replay, 30)] == [27, 6300]
    assert replay.demonstration_count == 700


def test_a_demonstration_that_a_crash_cut_is_never_drawn() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    log.add("a/1/run", episode_rows(SCHEMA, rng, length=5, klass=Klass.DEMONSTRATION)[:4])
    log.add("a/1/run", episode_rows(SCHEMA, rng, length=5, first_step=4, number=1, klass=Klass.DEMONSTRATION))
    assert [len(rows) for rows in pools(make_replay(log))] == [0, 5]


def test_a_stream_of_another_schema_is_left_out_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    log, rng = MemoryLog(state_schema(5)), np.random.default_rng(0)
    for n in range(2):
        log.add("a/1/run", episode_rows(state_schema(5), rng, length=3, first_step=4 * n, number=n))
    replay = make_replay(log)
    assert replay.rows == 0
    assert replay.seq == 2
    assert [r.message for r in caplog.records if r.levelno == logging.WARNING] == [
        f"stream a/1/run has schema {state_schema(5).digest}, the run {SCHEMA.digest}: left out"
    ]


def test_the_outcomes_of_the_last_episodes_are_known() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    for n, (success, interventions) in enumerate([(True, ()), (False, ()), (True, (0, 1)), (True, ())]):
        rows = episode_rows(
            SCHEMA, rng, length=4, first_step=5 * n, number=n, success=success, interventions=interventions
        )
        log.add("a/1/run", rows)
    replay = make_replay(log)
    assert [e.success for e in replay.recent] == [True, False, True]
    assert (replay.intake.episodes, replay.intake.intervened_rows, replay.online_rows) == (4, 2, 16)
    assert {e.length for e in replay.recent} == {4}


def test_each_cells_last_episodes_are_known() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    for n, (cell, success) in enumerate([("a", True), ("b", False), ("b", True), ("b", True), ("b", True)]):
        rows = episode_rows(SCHEMA, rng, length=4, first_step=5 * n, number=n, success=success)
        log.add(f"{cell}/1/run", rows)
    replay = make_replay(log)
    assert outcome(replay, 1)["success_by_cell"] == {"a": 1.0, "b": 0.75}
    assert outcome(replay, 1)["success_rate"] == 0.8


def test_the_normaliser_sees_every_row_in_memory_but_no_picture() -> None:
    camera = Image(name="observation.images.wrist", height=2, width=2)
    schema = make_schema({**SCHEMA.observation, camera.name: camera}, SCHEMA.action)
    log = filled(3, demonstrations=2, schema=schema)
    seen = make_replay(log, schema=schema).observations()
    assert list(seen) == [STATE]
    rows = np.concatenate([rows for _, rows in log.chunks])
    assert np.array_equal(seen[STATE], rows[STATE])


def test_the_cache_is_as_large_as_its_share_of_memory_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        replay = Replay(
            MemoryLog(SCHEMA), ReplayConfig(capacity_rows=1000), SCHEMA, seed=0, memory_bytes=200 * SCHEMA.row_bytes
        )
    assert replay.cache.slots == 100
    size = f"{100 * SCHEMA.row_bytes / 1e9:.2f} GB"
    assert caplog.messages == [f"replay: 1000 online rows of {SCHEMA.row_bytes} bytes, 100 of them in memory ({size})"]
    assert machine_memory_bytes() > 2**20
    with pytest.raises(ConfigError, match="capacity_rows = 1, allowed 2 or more; set replay"):
        Replay(MemoryLog(SCHEMA), ReplayConfig(capacity_rows=1), SCHEMA, seed=0)


@pytest.mark.slow
def test_a_real_log_gives_what_the_log_in_memory_gives(tmp_path: Path) -> None:
    fake = filled()
    with Log(tmp_path) as log:
        log.open_stream("a/1/run", SCHEMA)
        for stream, rows in fake.chunks:
            log.append(stream, rows)
            log.commit()
    with Reader(tmp_path) as reader:
        assert keys(make_replay(reader).sample(5, 64)) == keys(make_replay(fake).sample(5, 64))


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(histories(), st.integers(0, 4), st.lists(st.integers(0, 3), min_size=3, max_size=3))
def test_batches_are_the_same_whatever_the_cache_holds_and_however_far_ahead(
    history: list[tuple[str, Array]], ahead: int, sizes: list[int]
) -> None:
    log = MemoryLog(SCHEMA)
    for stream, rows in history:
        log.add(stream, rows)
    slow = make_replay(log, cache_rows=0)
    if not slow.can_sample():
        return
    expected = [keys(slow.sample(n, 16)) for n in range(12)]
    for size in (1, 3, 1000):
        replay = make_replay(log, cache_rows=size, ahead=ahead, threads=1 + sizes[0])
        assert [keys(replay.sample(n, 16)) for n in range(12)] == expected
        replay.close()
        again = make_replay(log, cache_rows=size, ahead=ahead)
        assert [keys(again.sample(n, 16)) for n in range(7, 12)] == expected[7:]
        again.close()


def test_a_resumed_run_repeats_its_draws_although_the_log_has_grown_since(tmp_path: Path) -> None:
    log, rng = filled(10), np.random.default_rng(9)
    first = make_replay(log, run=tmp_path, ahead=2)
    drawn = [keys(first.sample(n, 32)) for n in range(6)]
    first.close()
    for n in range(20):
        log.add("b/1/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
    again = make_replay(log, run=tmp_path, ahead=2)
    assert [keys(again.sample(n, 32)) for n in range(3, 6)] == drawn[3:]
    later = {key for n in range(8, 30) for key in keys(again.sample(n, 32))}
    assert later - set(keys(make_replay(filled(10)).sample(0, 9000)))
    again.close()


def test_rows_that_the_capacity_has_passed_leave_the_cache() -> None:
    log, rng = filled(3, demonstrations=0), np.random.default_rng(0)
    replay = make_replay(log, capacity=30, cache_rows=30, share=0.0)
    replay.sample(0, 500)
    assert replay.cache.misses == 1000
    for n in range(3):
        log.add("b/1/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
    replay.catch_up()
    replay.sample(1, 500)
    replay.sample(2, 500)
    assert (replay.cache.hits, replay.cache.misses) == (1000, 2000)


class Growing(MemoryLog):
    """A log that has another episode at every look."""

    def refs(self, after_seq: int, max_chunks: int) -> list[ChunkRef]:
        number = len(self.chunks)
        rows = episode_rows(SCHEMA, np.random.default_rng(number), length=9, first_step=10 * number, number=number)
        self.add("a/1/run", rows)
        assert number < 5000, "it was chased"
        return super().refs(after_seq, max_chunks)


def test_catching_up_does_not_chase_robots_that_go_on() -> None:
    log = Growing(SCHEMA)
    for _ in range(2 * CHUNKS):
        log.refs(0, 1)
    replay = make_replay(log)
    assert 2 * CHUNKS < replay.seq < 2 * CHUNKS + 5
