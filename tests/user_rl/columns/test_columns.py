import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from user_rl.columns import Column, ColumnReader, Columns, Ids, Verdict, column_from_name
from user_rl.columns.testing import Bounds, all_written
from user_rl.errors import SpecError, StorageBusy, StorageError, StorageFull

REWARD = "reward@classifier-3"
STREAM, OTHER = "cell-0/b1/run", "cell-1/b2/run"
ROWS = Bounds({STREAM: 9999, OTHER: 999}, {OTHER: 100})


def owner(path: Path, **options: Any) -> Columns:  # noqa: ANN401
    return Columns(path / "columns", ROWS, **options)


def reader(path: Path) -> ColumnReader:
    return ColumnReader(path / "columns")


def write(path: Path, column: Column, steps: Any, values: Any, stream: str = STREAM) -> list[int]:  # noqa: ANN401
    """In a life of its own: what one process opens it opens once."""
    with owner(path) as columns:
        columns.add(column)
        verdicts = columns.write(column.identity, stream, np.asarray(steps), values)
        columns.commit()
    found: list[int] = verdicts.tolist()
    return found


def reward(version: int = 3) -> Column:
    return column_from_name(f"reward@classifier-{version}")


def test_a_value_is_read_back_where_it_was_written_and_nowhere_else(tmp_path: Path) -> None:
    assert write(tmp_path, reward(), [5, 2, 700], [1.5, -1.0, 0.25]) == [0, 0, 0]
    with reader(tmp_path) as found:
        values, present = found.values(REWARD, STREAM, np.array([2, 3, 5, 700, 10**9], np.uint64))
        assert present.tolist() == [True, False, True, True, False]
        assert values.tolist() == [-1.0, 0.0, 1.5, 0.25, 0.0]
        assert values.dtype == np.float32
        assert not found.values(REWARD, "cell-9/b/run", np.array([2]))[1].any()


def test_the_same_value_again_is_fine_and_another_is_refused_and_counted(tmp_path: Path) -> None:
    write(tmp_path, reward(), [1, 2], [1.0, 2.0])
    with owner(tmp_path) as columns:
        verdicts = columns.write(REWARD, STREAM, np.array([1, 2, 3]), [1.0, 9.0, 3.0])
        assert verdicts.tolist() == [Verdict.SAME, Verdict.CONFLICT, Verdict.WRITTEN]
        assert columns.counts[Verdict.WRITTEN] == 0
        assert columns.commit() == {REWARD: 2}
        assert [columns.counts[v] for v in (Verdict.WRITTEN, Verdict.SAME, Verdict.CONFLICT)] == [1, 1, 1]
    with reader(tmp_path) as found:
        assert found.values(REWARD, STREAM, np.array([1, 2, 3]))[0].tolist() == [1.0, 2.0, 3.0]


def test_a_second_opinion_is_a_new_version_and_the_first_stays(tmp_path: Path) -> None:
    write(tmp_path, reward(3), [1], [1.0])
    write(tmp_path, reward(10), [1], [9.0])
    with reader(tmp_path) as found:
        assert found.versions("reward", "classifier") == [REWARD, "reward@classifier-10"]
        assert found.values(REWARD, STREAM, np.array([1]))[0].tolist() == [1.0]
        assert found.values("reward@classifier-10", STREAM, np.array([1]))[0].tolist() == [9.0]


def test_rows_that_are_not_there_are_refused_each_with_its_reason(tmp_path: Path) -> None:
    with owner(tmp_path) as columns:
        columns.add(reward())
        verdicts = columns.write(REWARD, OTHER, np.array([99, 100, 999, 1000, -1]), np.ones(5))
        assert [Verdict(v).name for v in verdicts] == ["EVICTED", "WRITTEN", "WRITTEN", "UNKNOWN", "UNKNOWN"]
        assert columns.write(REWARD, "x/y/run", np.array([0]), [1.0]).tolist() == [Verdict.UNKNOWN]
        assert (columns.counts[Verdict.UNKNOWN], columns.counts[Verdict.EVICTED]) == (3, 1)


def test_a_value_that_is_no_number_is_refused_for_its_row_alone(tmp_path: Path) -> None:
    assert write(tmp_path, reward(), [1, 2, 3, 1], [np.nan, 2.0, 1e300, 5.0]) == [
        Verdict.INVALID,
        Verdict.WRITTEN,
        Verdict.INVALID,
        Verdict.WRITTEN,
    ]


def test_one_id_twice_in_a_call_counts_once(tmp_path: Path) -> None:
    verdicts = write(tmp_path, reward(), [7, 8, 7, 7], [1.0, 2.0, 1.0, 3.0])
    assert verdicts == [Verdict.WRITTEN, Verdict.WRITTEN, Verdict.SAME, Verdict.CONFLICT]


def test_an_id_that_is_there_is_judged_by_what_is_there_also_when_it_comes_twice(tmp_path: Path) -> None:
    write(tmp_path, reward(), [7], [1.0])
    assert write(tmp_path, reward(), [7, 7, 7], [2.0, 1.0, 2.0]) == [Verdict.CONFLICT, Verdict.SAME, Verdict.CONFLICT]


def test_what_waits_for_the_commit_counts_as_there(tmp_path: Path) -> None:
    column = column_from_name("embedding@dino-1", shape=(32,))
    with owner(tmp_path) as columns:
        columns.add(column)
        values = np.arange(64, dtype=np.float32).reshape(2, 32)
        assert all_written(columns.write(column.identity, STREAM, np.array([4, 5]), values))
        assert columns.write(column.identity, STREAM, np.array([4, 5]), values[::-1]).tolist() == [2, 2]
        assert columns.write(column.identity, STREAM, np.array([4, 5]), values).tolist() == [1, 1]
        assert np.array_equal(columns.values(column.identity, STREAM, np.array([5]))[0], values[1:])
        assert columns.commit() == {column.identity: 1}
        assert columns.commit() == {}
        assert columns.write(column.identity, STREAM, np.array([4, 5]), values).tolist() == [1, 1]


def test_a_reader_at_an_earlier_commit_sees_what_was_there_then(tmp_path: Path) -> None:
    for steps in ([1, 2], [3], [2000, 0]):
        write(tmp_path, reward(), steps, np.array(steps) * 0.5)
    ids = np.array([0, 1, 2, 3, 2000])
    with reader(tmp_path) as found:
        assert found.seqs() == {REWARD: 3}
        at = [found.values(REWARD, STREAM, ids, seq)[1].tolist() for seq in range(4)]
        assert at[0] == [False] * 5
        assert at[1] == [False, True, True, False, False]
        assert at[2] == [False, True, True, True, False]
        assert at[3] == [True] * 5
        with pytest.raises(StorageError, match=r"commit 4 is asked for, it has 3; restore the column from a backup$"):
            found.mask(REWARD, Ids((STREAM,), np.zeros(5, int), ids), 4)


def test_batches_over_many_streams_are_masked_gathered_and_overridden(tmp_path: Path) -> None:
    write(tmp_path, reward(), [1, 2], [10.0, 20.0])
    write(tmp_path, reward(), [500], [30.0], OTHER)
    ids = Ids.of([OTHER, STREAM, "none/b/run", STREAM], np.array([500, 2, 1, 7]))
    with reader(tmp_path) as found:
        assert found.mask(REWARD, ids).tolist() == [True, True, False, False]
        assert found.mask(REWARD, ids, 1).tolist() == [False, True, False, False]
        assert found.ready([REWARD], ids, {REWARD: 1}).tolist() == [False, True, False, False]
        assert not found.ready([REWARD, "success@human-1"], ids).any()
        rewards = np.full(4, -1.0, np.float32)
        assert found.override(REWARD, ids, rewards).tolist() == [True, True, False, False]
        assert rewards.tolist() == [30.0, 20.0, -1.0, -1.0]


def test_annotations_are_texts_and_episodes_have_columns_too(tmp_path: Path) -> None:
    note = column_from_name("annotation@anna-1", dtype="text", per="episode")
    texts = ["", "greift daneben \N{CROSS MARK}", "x" * 70_000, "\ud800"]
    assert write(tmp_path, note, [0, 1, 2, 3], texts) == [0, 0, Verdict.INVALID, Verdict.INVALID]
    with reader(tmp_path) as found:
        values, present = found.values(note.identity, STREAM, np.array([1, 0, 2]))
        assert values.tolist() == [texts[1], "", ""]
        assert present.tolist() == [True, True, False]


def test_a_reader_follows_its_writer_without_opening_again(tmp_path: Path) -> None:
    with reader(tmp_path) as found:
        assert found.names() == []
        assert found.seqs() == {}
        assert not found.mask(REWARD, Ids((STREAM,), np.zeros(1, int), np.array([1]))).any()
        with pytest.raises(StorageError, match=re.escape(f"no column {REWARD}, it has []; label some rows first")):
            found.column(REWARD)
        write(tmp_path, reward(), [1], [1.0])
        assert found.seqs() == {REWARD: 1}
        assert found.column(REWARD).version == 3


def test_pruning_drops_what_the_log_no_longer_has(tmp_path: Path) -> None:
    rows = Bounds({STREAM: 99_999})
    with Columns(tmp_path / "columns", rows) as columns:
        columns.add(reward())
        columns.write(REWARD, STREAM, np.arange(0, 20_000), np.ones(20_000))
        columns.commit()
        assert columns.prune() == 0
        rows.kept[STREAM] = 10_000
        assert columns.prune() == 2
        assert columns.write(REWARD, STREAM, np.array([9_999]), [1.0]).tolist() == [Verdict.EVICTED]
    with reader(tmp_path) as found:
        present = found.values(REWARD, STREAM, np.arange(20_000))[1]
        assert not present[:8192].any()
        assert present[8192:].all()
        assert found.seqs() == {REWARD: 1}


def test_a_wide_value_that_is_pruned_while_it_is_read_is_not_there(tmp_path: Path) -> None:
    column, rows = column_from_name("embedding@dino-1", shape=(32,)), Bounds({STREAM: 99_999})
    with Columns(tmp_path / "columns", rows) as columns:
        columns.add(column)
        columns.write(column.identity, STREAM, np.arange(5000), np.ones((5000, 32)))
        columns.commit()
        rows.kept[STREAM] = 4096
        columns.prune()
        values, present = columns.values(column.identity, STREAM, np.array([4095, 4096]))
        assert present.tolist() == [False, True]
        assert values.sum(axis=1).tolist() == [0, 32]


def test_a_second_writer_is_told_who_has_the_columns(tmp_path: Path) -> None:
    with owner(tmp_path), pytest.raises(StorageBusy, match=r"columns is held by process \d+, allowed one"):
        owner(tmp_path)


def test_a_writer_that_was_outvoted_may_not_write(tmp_path: Path) -> None:
    with owner(tmp_path) as columns:
        columns.add(reward())
        columns.write(REWARD, STREAM, np.array([1]), [1.0])
        (tmp_path / "columns" / "owner.json").write_text('{"format":1,"epoch":7}')
        with pytest.raises(
            StorageBusy, match=r"its writer has epoch 7 now, ours is 1; close this one, it may not write$"
        ):
            columns.commit()


def test_a_full_column_writes_nothing_and_takes_it_later(tmp_path: Path) -> None:
    column = column_from_name("embedding@dino-1", shape=(1024,))
    with owner(tmp_path, map_bytes=2**20) as columns:
        columns.add(column)
        columns.write(column.identity, STREAM, np.arange(500), np.ones((500, 1024)))
        with pytest.raises(StorageFull, match=r"allowed 1048576; go on in a new version of this column$"):
            columns.commit()
        assert not columns.values(column.identity, STREAM, np.arange(500))[1].any()
        assert columns.counts[Verdict.WRITTEN] == 0
        assert all_written(columns.write(column.identity, STREAM, np.arange(50), np.ones((50, 1024))))
        assert columns.commit() == {column.identity: 1}


def test_a_reader_keeps_to_its_memory(tmp_path: Path) -> None:
    write(tmp_path, reward(), [0, 9000], [1.0, 1.0])
    with (
        ColumnReader(tmp_path / "columns", memory_bytes=50_000) as found,
        pytest.raises(StorageFull, match=r"late values of \d+ ids: \d+ bytes of memory, allowed 50000; prune"),
    ):
        found.column(REWARD)


def test_labels_that_come_newest_first_take_no_more_memory(tmp_path: Path) -> None:
    with owner(tmp_path, memory_bytes=2**19) as columns:  # 10,000 ids take 120 kB, in use or not four times that
        columns.add(reward())
        for first in range(9_900, -1, -100):
            columns.write(REWARD, STREAM, np.arange(first, first + 100), np.arange(first, first + 100))
        columns.commit()
    with reader(tmp_path) as found:
        assert np.array_equal(found.values(REWARD, STREAM, np.arange(10_000))[0], np.arange(10_000))
        assert found.count(REWARD) == 10_000


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: column_from_name("reward"),
            "column 'reward': allowed name@writer-version, such as reward@classifier-3",
        ),
        (lambda: column_from_name("re/ward@x-1"), "column 're/ward@x-1': allowed name@writer-version"),
        (lambda: column_from_name("reward@x-0"), "column 'reward@x-0': allowed name@writer-version"),
        (
            lambda: column_from_name("e@x-1", dtype="O"),
            "column e@x-1: dtype O [], allowed <f4, <f8, <i4, <i8, u1, text",
        ),
        (lambda: column_from_name("e@x-1", dtype="text", shape=(2,)), "column e@x-1: dtype text [2], allowed"),
        (lambda: column_from_name("e@x-1", shape=(0,)), "column e@x-1: shape [0], allowed up to 4 dimensions"),
        (lambda: column_from_name("e@x-1", shape=(2**17,)), "column e@x-1: shape [131072], allowed up to 4 dimensions"),
        (
            lambda: reward().checked([1.0], 2),
            f"{REWARD}: float64 values of shape [1] for 2 ids, allowed numbers of [2]",
        ),
        (lambda: reward().checked(["a"], 1), f"{REWARD}: <U1 values of shape [1] for 1 ids, allowed numbers of [1]"),
        (
            lambda: column_from_name("keep@x-1", dtype="u1").checked([300], 1),
            "keep@x-1: values that are no u1, allowed whole ones in range; round them",
        ),
        (
            lambda: column_from_name("n@x-1", dtype="text").checked([1], 1),
            "n@x-1: 1 values for 1 ids, allowed one text",
        ),
    ],
)
def test_a_column_that_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=f"^{re.escape(message)}"):
        make()


def test_a_column_is_not_taken_for_one_with_other_values(tmp_path: Path) -> None:
    write(tmp_path, reward(), [1], [1.0])
    with owner(tmp_path) as columns:
        columns.add(column_from_name(REWARD, created_by="somebody else"))
        with pytest.raises(
            SpecError, match=re.escape("has <f4 [] '' per row, offered was <f4 [2] '' per row; write a new version")
        ):
            columns.add(column_from_name(REWARD, shape=(2,)))
    ids = Ids((STREAM,), np.zeros(1, int), np.array([1]))
    with (
        reader(tmp_path) as found,
        pytest.raises(SpecError, match=re.escape("cannot stand for float32 [1, 2]; choose")),
    ):
        found.override(REWARD, ids, np.zeros((1, 2), np.float32))


WRITES = st.lists(
    st.tuples(
        st.sampled_from([STREAM, OTHER]),
        st.lists(st.tuples(st.integers(-5, 1200), st.integers(0, 2)), min_size=1, max_size=30),
        st.booleans(),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(WRITES, st.booleans())
def test_any_history_of_writes_reads_as_a_plain_dictionary_says(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, list[tuple[int, int]], bool]], wide: bool
) -> None:
    path = tmp_path_factory.mktemp("history")
    column = column_from_name("e@x-1", shape=(20,) if wide else ())
    known: dict[tuple[str, int], tuple[int, int]] = {}  # id → value, commit
    waiting: set[tuple[str, int]] = set()
    seq = 0
    with owner(path) as columns:
        columns.add(column)
        for stream, pairs, commits in history:
            ids = np.array([i for i, _ in pairs])
            values = np.array([v for _, v in pairs], np.float32)
            given_values = np.repeat(values[:, None], 20, 1) if wide else values
            for (i, v), verdict in zip(pairs, columns.write(column.identity, stream, ids, given_values), strict=True):
                low, high = ROWS.kept.get(stream, 0), ROWS.last[stream]
                if i < 0 or i > high:
                    assert verdict == Verdict.UNKNOWN
                elif i < low:
                    assert verdict == Verdict.EVICTED
                elif (stream, i) in known:
                    assert verdict == (Verdict.SAME if known[stream, i][0] == v else Verdict.CONFLICT)
                else:
                    assert verdict == Verdict.WRITTEN
                    known[stream, i] = (v, seq + 1)
                    waiting.add((stream, i))
            if commits:
                seq += bool(waiting)
                columns.commit()
                waiting.clear()
    with reader(path) as found:
        ids = np.arange(-5, 1201)
        for stream in (STREAM, OTHER):
            for at in range(seq + 1):
                values, present = found.values(column.identity, stream, ids, at)
                wanted = {i: v for (s, i), (v, when) in known.items() if s == stream and when <= at}
                wanted = {i: v for i, v in wanted.items() if (stream, i) not in waiting}
                assert set(ids[present].tolist()) == set(wanted)
                flat = values.reshape(len(ids), -1)[present]
                assert [set(row.tolist()) for row in flat] == [{wanted[i]} for i in ids[present].tolist()]
