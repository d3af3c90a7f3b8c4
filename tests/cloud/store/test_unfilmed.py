"""Rows whose pictures were not recorded, and pictures that cannot be decoded: not learned from, and the run goes on."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import MemoryLog, episode_rows, state_schema
from user_rl.log import Log, Reader
from user_rl.log.coded import Coded, packed
from user_rl.log.unfilmed import unfilmed
from user_rl.rows import make_schema
from user_rl.specs import Array, Image

FRONT, STATE = "observation.images.front", "observation.state"
STATES = state_schema()
SCHEMA = make_schema({**STATES.observation, FRONT: Image(name=FRONT, height=48, width=64)}, STATES.action)
STREAM = "a/1/run"


def rows_of(number: int) -> Array:
    """An episode of 9 steps."""
    rng = np.random.default_rng(number)
    return episode_rows(SCHEMA, rng, length=9, first_step=10 * number, number=number)


def parted(number: int, first: int, last: int) -> list[Array]:
    """An episode that has no pictures at steps first..last."""
    rows = rows_of(number)
    blank = unfilmed(rows[first : last + 1], SCHEMA, {}).records
    return [part for part in (rows[:first], blank, rows[last + 1 :]) if len(part)]


def drawn_steps(replay: Replay, log: MemoryLog, draws: int = 30) -> set[int]:
    """The steps that are drawn, all of them with the pictures of a row and of the one that follows it."""
    every = np.concatenate([rows for _, rows in log.chunks])
    found = {row[STATE].tobytes(): (int(row["step"]), row[FRONT].tobytes()) for row in every}
    steps = set()
    for number in range(draws):
        batch = replay.sample(number, 64)
        for i in range(64):
            step, picture = found[batch.observation[STATE][i].tobytes()]
            after, next_picture = found[batch.next_observation[STATE][i].tobytes()]
            assert after == step + 1
            assert batch.observation[FRONT][i].tobytes() == picture
            assert batch.next_observation[FRONT][i].tobytes() == next_picture
            steps.add(step)
    return steps


@pytest.mark.parametrize("chunks", [1, 3])
def test_they_are_neither_drawn_nor_followed_to_however_they_are_cut(
    chunks: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = MemoryLog(SCHEMA)
    for number in range(3):
        parts = parted(number, 4, 6) if number == 1 else [rows_of(number)]
        for part in [np.concatenate(parts)] if chunks == 1 else parts:
            log.add(STREAM, part)
    with closing(Replay(log, ReplayConfig(ahead=0), SCHEMA, seed=1)) as replay:
        replay.catch_up()
        assert drawn_steps(replay, log) == {*range(9), 10, 11, 12, 17, 18, *range(20, 29)}
        assert replay.intake.unfilmed_rows == 3
        assert replay.online_rows == 27
    assert caplog.text.count("they are not learned from") == 1


def test_who_sees_no_pictures_learns_from_them() -> None:
    log = MemoryLog(SCHEMA)
    for part in parted(0, 0, 9):
        log.add(STREAM, part)
    with closing(Replay(log, ReplayConfig(ahead=0, pictures=False), SCHEMA, seed=1)) as replay:
        replay.catch_up()
        assert drawn_steps(replay, log) == set(range(9))
    with closing(Replay(log, ReplayConfig(ahead=0), SCHEMA, seed=1)) as replay:
        replay.catch_up()
        assert not replay.can_sample()


def test_a_picture_that_cannot_be_decoded_costs_its_chunk_and_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Log(tmp_path / "log") as log:
        log.open_stream(STREAM, SCHEMA)
        for number in range(4):
            rows = rows_of(number)
            rows[FRONT] = 10 * number  # as smooth as no camera sees, so that they are fewer bytes than the raw ones
            stored = packed(rows, {FRONT: "jpeg"}) or b""
            if number == 2:
                part = Coded(memoryview(stored), 10, SCHEMA.dtype)
                ((ends, blobs),) = part.columns
                at = stored.index(bytes(blobs)) + ends[3]
                head = stored[at : at + 200]  # its size is there, its picture is not
                stored = stored[:at] + head + bytes(ends[4] - ends[3] - 200) + stored[at + ends[4] - ends[3] :]
            log.append_coded(STREAM, stored, 10)
            log.commit()
    with Reader(tmp_path / "log") as reader, closing(Replay(reader, ReplayConfig(ahead=0), SCHEMA, seed=1)) as replay:
        replay.catch_up()
        kept = {rows_of(n)[STATE][i].tobytes() for n in (0, 1, 3) for i in range(9)}
        seen = {s.tobytes() for n in range(20) for s in replay.sample(n, 64).observation[STATE]}
        assert seen & kept == kept
        again = {s.tobytes() for n in range(20, 30) for s in replay.sample(n, 64).observation[STATE]}
        assert again <= kept
    assert caplog.text.count("its rows are not learned from any more") == 1
