import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.batch import Batch
from cloud.replay import Replay, ReplayConfig, machine_memory_bytes
from cloud.slab import SCARCE, Slab, row_bytes
from cloud.testing import MemoryLog, episode_rows, state_schema
from user_rl.errors import ConfigError
from user_rl.log import Log, Reader
from user_rl.rows import Kind, Klass, Schema, make_schema
from user_rl.specs import Array, Image

SCHEMA = state_schema()
STATE = "observation.state"
Key = tuple[bytes, bytes, float, bool, bytes]  # s, a, r, done, s'


def make_replay(
    log: MemoryLog | Reader, *, capacity: int = 1000, interventions: bool = True, seed: int = 3, schema: Schema = SCHEMA
) -> Replay:
    config = ReplayConfig(capacity_rows=capacity, interventions_are_demonstrations=interventions)
    replay = Replay(log, config, schema, seed=seed)
    take_all(replay)
    return replay


def take_all(replay: Replay) -> None:
    seq = -1
    while seq != replay.seq:
        seq = replay.seq
        replay.refresh()


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
    replay = make_replay(log, capacity=capacity, interventions=interventions)
    demonstrations: dict[tuple[str, int], list[Array]] = {}
    for n, (stream, rows) in enumerate(history):
        log.add(stream, rows)
        take_all(replay)
        if rows["klass"][0] == Klass.ONLINE:
            reference.add(stream, rows)
        else:
            demonstrations.setdefault((stream, int(rows["episode"][0])), []).append(rows)
            reference.shown = [list(np.concatenate(parts)) for parts in demonstrations.values()]
        online = reference.online_transitions()
        shown = reference.demonstrations() | (reference.interventions() if interventions else set())
        assert (replay.online.transitions, replay.demonstrations.transitions) == (len(online), len(shown))
        if online:
            assert set(keys(replay.sample(n, 200 * len(online), 0.0))) == online
        if shown:
            assert set(keys(replay.sample(n, 200 * len(shown), 1.0))) == shown
    assert replay.online_rows == sum(row["kind"] == Kind.STEP for _, row in reference.online)


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
    replay = make_replay(filled())
    demonstrations = set(keys(replay.sample(0, 4000, 1.0)))
    for share, count in [(0.5, 32), (0.25, 16), (0.0, 0), (1.0, 64), (0.3, 19)]:
        found = [key in demonstrations for key in keys(replay.sample(1, 64, share))]
        assert found == [True] * count + [False] * (64 - count)


def test_a_side_that_is_empty_leaves_its_part_to_the_other() -> None:
    only_shown, only_online = make_replay(filled(0)), make_replay(filled(demonstrations=0))
    assert set(keys(only_shown.sample(1, 500, 0.0))) == set(keys(only_shown.sample(2, 500, 1.0)))
    assert len(keys(only_online.sample(1, 64, 0.5))) == 64
    assert only_shown.can_sample()
    assert not make_replay(MemoryLog(SCHEMA)).can_sample()


def test_a_draw_depends_on_seed_number_and_horizon_alone() -> None:
    first, second, other = make_replay(filled()), make_replay(filled()), make_replay(filled(), seed=4)
    first.sample(1, 64, 0.5)
    assert keys(first.sample(2, 64, 0.5)) == keys(second.sample(2, 64, 0.5))
    assert keys(first.sample(2, 64, 0.5)) != keys(first.sample(3, 64, 0.5))
    assert keys(first.sample(2, 64, 0.5)) != keys(other.sample(2, 64, 0.5))
    assert keys(first.sample(2, 64, 0.5)) != keys(make_replay(filled(31)).sample(2, 64, 0.5))


def test_every_transition_is_as_likely_as_another() -> None:
    replay = make_replay(filled(10, demonstrations=0))
    counts: dict[Key, int] = {}
    for key in keys(replay.sample(0, 90_000, 0.0)):
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 90
    assert max(abs(n - 1000) for n in counts.values()) < 6 * 1000**0.5


def test_a_termination_is_done_and_a_time_limit_is_not() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    log.add("a/1/run", terminated := episode_rows(SCHEMA, rng, length=1))
    log.add("b/1/run", truncated := episode_rows(SCHEMA, rng, length=1, success=False))
    found = set(keys(make_replay(log).sample(0, 64, 0.0)))
    assert found == {key_of(*terminated), key_of(*truncated)}
    assert {(key[3], key[2]) for key in found} == {(True, 1.0), (False, 0.0)}


def test_demonstrations_are_never_evicted_and_failed_ones_never_drawn() -> None:
    log = filled(0, demonstrations=700, length=9)
    rng = np.random.default_rng(1)
    log.add("b/1/run", episode_rows(SCHEMA, rng, length=9, klass=Klass.DEMONSTRATION, success=False))
    for n in range(20):
        log.add("b/2/run", episode_rows(SCHEMA, rng, length=9, first_step=10 * n, number=n))
    replay = make_replay(log, capacity=30)
    assert replay.demonstrations.transitions == 6300
    assert replay.demonstration_count == 700
    assert replay.online.transitions == 27
    assert replay.rows == 7030


def test_a_demonstration_that_a_crash_cut_is_never_drawn() -> None:
    log, rng = MemoryLog(SCHEMA), np.random.default_rng(0)
    log.add("a/1/run", episode_rows(SCHEMA, rng, length=5, klass=Klass.DEMONSTRATION)[:4])
    log.add("a/1/run", episode_rows(SCHEMA, rng, length=5, first_step=4, number=1, klass=Klass.DEMONSTRATION))
    replay = make_replay(log)
    assert (replay.demonstrations.transitions, replay.demonstrations.size) == (5, 6)


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
    assert (replay.episodes, replay.intervened_rows, replay.online_rows) == (4, 2, 16)
    assert {e.length for e in replay.recent} == {4}


def test_the_normaliser_sees_every_row_in_memory_but_no_picture() -> None:
    camera = Image(name="observation.images.wrist", height=2, width=2)
    schema = make_schema({**SCHEMA.observation, camera.name: camera}, SCHEMA.action)
    log = filled(3, demonstrations=2, schema=schema)
    seen = make_replay(log, schema=schema).observations()
    assert list(seen) == [STATE]
    rows = np.concatenate([schema.view(chunk.data) for _, chunk in log.tail(0, 2**20)])
    assert np.array_equal(seen[STATE], rows[STATE])


def test_a_capacity_beyond_the_memory_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    each = row_bytes(SCHEMA)
    config = ReplayConfig(capacity_rows=1000)
    with pytest.raises(
        ConfigError, match=rf"^replay\.capacity_rows = 1000 takes 0\.00 GB at {each} bytes a row, allowed "
    ):
        Replay(MemoryLog(SCHEMA), config, SCHEMA, seed=0, memory_bytes=1000 * each)
    with caplog.at_level(logging.INFO):
        Replay(MemoryLog(SCHEMA), config, SCHEMA, seed=0, memory_bytes=1250 * each)
    assert caplog.messages == [f"replay: up to 1000 online rows of {each} bytes, 0.00 GB of memory"]
    assert machine_memory_bytes() > 2**20
    with pytest.raises(ConfigError, match="capacity_rows = 1 takes"):
        Replay(MemoryLog(SCHEMA), ReplayConfig(capacity_rows=1), SCHEMA, seed=0)


@pytest.mark.slow
def test_a_real_log_gives_what_the_log_in_memory_gives(tmp_path: Path) -> None:
    fake = filled()
    with Log(tmp_path) as log:
        log.open_stream("a/1/run", SCHEMA)
        for _, chunk in fake.tail(0, 2**20):
            log.append("a/1/run", SCHEMA.view(chunk.data))
            log.commit()
    with Reader(tmp_path) as reader:
        assert keys(make_replay(reader).sample(5, 64, 0.5)) == keys(make_replay(fake).sample(5, 64, 0.5))


def test_a_slab_lists_its_transitions_where_they_are_scarce() -> None:
    slab, rng = Slab(SCHEMA, 1000), np.random.default_rng(0)
    for n in range(60):
        slab.add("a/1/run", episode_rows(SCHEMA, rng, length=5, first_step=6 * n, number=n)[:1])
    slab.add("a/1/run", episode_rows(SCHEMA, rng, length=5, first_step=1000, number=99))
    assert slab.transitions * SCARCE < slab.size
    assert set(slab.draw(rng, 200).tolist()) == {60, 61, 62, 63, 64}


def test_neither_a_jump_nor_another_episode_is_a_successor() -> None:
    slab, rng = Slab(SCHEMA, 100), np.random.default_rng(0)
    rows = episode_rows(SCHEMA, rng, length=8)
    slab.add("a/1/run", rows[[0, 1, 4, 5]])
    assert set(slab.draw(rng, 99).tolist()) == {0, 2}
    rows["episode"][2:] = 1
    slab.add("b/1/run", rows[:4])
    assert set(slab.draw(rng, 99).tolist()) == {0, 2, 4, 6}


def test_rows_that_come_twice_the_capacity_at_once_leave_the_newest() -> None:
    slab, rng = Slab(SCHEMA, 10), np.random.default_rng(0)
    rows = episode_rows(SCHEMA, rng, length=24)
    slab.add("a/1/run", rows)
    assert np.array_equal(slab.recent(STATE, 10), rows[STATE][-10:])
    assert slab.transitions == 9


@pytest.mark.slow
def test_a_batch_of_256_small_rows_is_drawn_in_well_under_a_millisecond() -> None:
    replay = make_replay(filled(2000, demonstrations=20, length=60), capacity=100_000)
    best_s = 1.0
    for n in range(300):
        start_s = time.perf_counter()
        replay.sample(n, 256, 0.5)
        best_s = min(best_s, time.perf_counter() - start_s)
    assert best_s < 0.3e-3
