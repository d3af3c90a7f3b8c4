"""A log, exported and imported again, is the same log: every byte of every row, but for pictures that went as video."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.datasets.exporting import Exported, Wanted, chosen, export
from cloud.datasets.importing import Choices, import_dataset
from cloud.datasets.lerobot_v3_writer import Form
from cloud.testing import episode_rows
from tests.cloud.datasets.recordings import (
    BLIND,
    FILMED,
    FRONT,
    SEEING,
    STREAM,
    all_rows,
    filmed_episode,
    stamped,
    write_log,
)
from user_rl.errors import StorageError
from user_rl.log import Reader
from user_rl.rows import Klass, Schema
from user_rl.specs import Array

FLAGS = ("source", "is_intervention", "next.done", "next.truncated", "next.success")


def export_all(log: Path, to: Path, *, wanted: Wanted | None = None, **form: object) -> Exported:
    with Reader(log) as reader:
        return export(
            reader, chosen(reader, wanted or Wanted()), to,
            make_form=lambda fps: Form(fps=fps, robot_type="arm", **form),  # type: ignore[arg-type]  # a test's own
        )  # fmt: skip


def noisy(schema: Schema, seed: int, *, length: int, first_step: int, number: int, cut: bool, late: int) -> Array:
    """An episode whose every field is random, cut by a crash or not, its first `late` rows lost."""
    rng = np.random.default_rng(seed)
    klass = Klass(int(rng.integers(2)))
    rows = episode_rows(schema, rng, length=length, first_step=first_step, number=number, klass=klass)
    rows["version"], rows["token"] = rng.integers(0, 2**64, (2, len(rows)), dtype=np.uint64)
    rows["version_hash"] = rng.integers(0, 256, (len(rows), 16))
    rows["run"] = [rng.bytes(int(rng.integers(0, 48))) for _ in rows]
    rows["task"] = [rng.bytes(int(rng.integers(0, 48))) for _ in rows]
    for name in FLAGS:
        rows[name] = rng.integers(0, 2, len(rows))
    for name in (*(n for n in rows.dtype.names or () if n.startswith("stamp.")), "clock_offset_s"):
        rows[name] = rng.standard_normal(len(rows)) * 1e6
    for name in ("action.proposed", "action.sent", "next.reward"):
        rows[name] = rng.standard_normal(rows[name].shape)
    rows["action.proposed"][0] = np.nan
    rows = rows[: len(rows) - cut]
    return rows[min(late, len(rows) - 1) :]


@settings(max_examples=12, deadline=None)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 5), st.booleans(), st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6
    ),
    seed=st.integers(0, 2**32),
    sees=st.booleans(),
)
@pytest.mark.slow
def test_a_log_comes_back_byte_for_byte(shapes: list[tuple[int, bool, int, int]], seed: int, sees: bool) -> None:
    schema, numbers = SEEING if sees else BLIND, count(seed)
    streams: dict[str, list[Array]] = {}
    for number, (length, cut, late, gap) in enumerate(shapes):
        stream = f"arm{number % 2}/{'b' * 32}/run"
        before = streams.setdefault(stream, [])
        first = (int(before[-1]["step"][-1]) + 1 if before else 0) + gap
        rows = noisy(schema, next(numbers), length=length, first_step=first, number=number, cut=cut, late=late)
        if (rows["kind"] == 0).any():
            before.append(rows)
    streams = {stream: episodes for stream, episodes in streams.items() if episodes}
    if not streams:
        return
    with TemporaryDirectory() as name:
        root = Path(name)
        write_log(root / "log", streams, schema)
        done = export_all(root / "log", root / "set", images="png")
        back = import_dataset(root / "set", "lerobot", root / "back", Choices())
        assert done.episodes == back.episodes == sum(map(len, streams.values()))
        for stream, episodes in streams.items():
            assert all_rows(root / "back", stream).tobytes() == np.concatenate(episodes).tobytes()
        with Reader(root / "log") as one, Reader(root / "back") as two:
            assert one.episodes() == two.episodes()
            assert {n: s.encoded for n, s in two.streams().items()} == dict.fromkeys(streams, schema.encoded)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["libsvtav1", "libvpx-vp9"])
def test_as_video_all_but_the_pictures_is_the_same_and_these_are_near(tmp_path: Path, codec: str) -> None:
    rng = np.random.default_rng(0)
    rows = [filmed_episode(rng, length=7), filmed_episode(rng, length=5, first_step=8, number=1, success=False)]
    write_log(tmp_path / "log", {STREAM: rows}, FILMED)
    export_all(tmp_path / "log", tmp_path / "set", codec=codec)
    done = import_dataset(tmp_path / "set", "lerobot", tmp_path / "back", Choices())
    assert done.streams != [STREAM]
    back, original = all_rows(tmp_path / "back", done.streams[0]), np.concatenate(rows)
    for name in FILMED.dtype.names or ():
        if name != FRONT:
            assert back[name].tobytes() == original[name].tobytes(), name
    apart = np.abs(back[FRONT].astype(int) - original[FRONT].astype(int)).mean(axis=(1, 2, 3))
    assert apart.max() < 5.0
    assert (apart[[7, 13]] == 0).all(), "the last observation of an episode is kept as it is"


def test_a_second_import_adds_nothing(tmp_path: Path) -> None:
    write_log(tmp_path / "log", {STREAM: [stamped(episode_rows(BLIND, np.random.default_rng(0), length=3))]}, BLIND)
    export_all(tmp_path / "log", tmp_path / "set")
    import_dataset(tmp_path / "set", "lerobot", tmp_path / "back", Choices())
    before = (tmp_path / "back" / "log.json").read_bytes()
    again = import_dataset(tmp_path / "set", "lerobot", tmp_path / "back", Choices())
    assert (again.rows, again.already) == (0, 4)
    assert (tmp_path / "back" / "log.json").read_bytes() == before


def test_a_longer_export_of_the_same_log_adds_the_rest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first = stamped(episode_rows(BLIND, rng, length=3))
    write_log(tmp_path / "log", {STREAM: [first]}, BLIND)
    export_all(tmp_path / "log", tmp_path / "one")
    second = stamped(episode_rows(BLIND, rng, length=2, first_step=4, number=1))
    write_log(tmp_path / "log", {STREAM: [second]}, BLIND)
    export_all(tmp_path / "log", tmp_path / "two")
    import_dataset(tmp_path / "one", "lerobot", tmp_path / "back", Choices())
    done = import_dataset(tmp_path / "two", "lerobot", tmp_path / "back", Choices())
    assert (done.episodes, done.rows, done.already) == (1, 3, 4)
    assert all_rows(tmp_path / "back", STREAM).tobytes() == np.concatenate([first, second]).tobytes()


def test_rows_that_the_log_wrote_off_do_not_come_back_silently(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [stamped(episode_rows(BLIND, rng, length=3, first_step=4 * k, number=k)) for k in range(2)]
    write_log(tmp_path / "log", {STREAM: rows}, BLIND)
    export_all(tmp_path / "log", tmp_path / "late", wanted=Wanted(last=1))
    export_all(tmp_path / "log", tmp_path / "all")
    import_dataset(tmp_path / "late", "lerobot", tmp_path / "back", Choices())
    assert all_rows(tmp_path / "back", STREAM).tobytes() == rows[1].tobytes()
    with pytest.raises(
        StorageError, match=r"step 0 was written off there and cannot come back; import into a new log$"
    ):
        import_dataset(tmp_path / "all", "lerobot", tmp_path / "back", Choices())
