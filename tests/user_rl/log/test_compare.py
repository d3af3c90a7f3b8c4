"""Compare: two logs of one run are the same, or every row that was lost, doubled or changed is counted."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.user_rl.log import filmed_rows
from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, plant, rows
from user_rl.errors import SchemaMismatch
from user_rl.log import Comparison, Log, LogConfig, Reader, compare
from user_rl.log.chunk import Span
from user_rl.log.compare import _joined, _lost
from user_rl.log.dropped import keep_footer, prepare
from user_rl.log.retention import RetentionConfig
from user_rl.log.segment import Footer, Segment
from user_rl.rows import make_schema
from user_rl.specs import Array, box

ONE, TWO = "cell/1/run", "cell/2/run"


def record(path: Path, parts: list[tuple[str, Array | tuple[int, int]]], *, segment_bytes: int = 2**20) -> None:
    """Commits rows, or gaps (first, last), one commit each."""
    with Log(path, LogConfig(segment_bytes=segment_bytes)) as log:
        for stream, part in parts:
            log.open_stream(stream, SCHEMA)
            if isinstance(part, tuple):
                log.append_gap(stream, *part)
            else:
                log.append(stream, part)
            log.commit()


def compared(tmp_path: Path, run: str = "run") -> Comparison:
    with Reader(tmp_path / "edge") as edge, Reader(tmp_path / "cloud") as cloud:
        return compare(edge, cloud, run)


def expect(rows: int, *, lost: int = 0, waiting: int = 0, duplicated: int = 0, differing: int = 0) -> Comparison:
    return Comparison(
        rows=rows, rows_lost=lost, rows_waiting=waiting, rows_duplicated=duplicated, rows_differing=differing
    )


def test_equal_logs_are_equal_however_they_are_cut(tmp_path: Path) -> None:
    whole = [(ONE, mixed(0, 40)), (TWO, mixed(0, 25)), ("cell/1/other", mixed(0, 9)), ("cell/1/rerun", mixed(0, 9))]
    record(tmp_path / "edge", [(name, part) for name, part in whole])
    parts = [(ONE, mixed(0, 7)), (TWO, mixed(0, 25)), (ONE, mixed(7, 33)), ("other/1/run", mixed(0, 5))]
    record(tmp_path / "cloud", [(name, part) for name, part in parts])
    assert compared(tmp_path) == expect(65)
    assert compared(tmp_path, "nothing") == expect(0)


def test_a_planted_lost_row_is_counted(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, mixed(0, 40))])
    record(tmp_path / "cloud", [(ONE, mixed(0, 12)), (ONE, (12, 12)), (ONE, mixed(13, 27))])
    assert compared(tmp_path) == expect(39, lost=1)


def test_a_row_that_both_sides_lack_is_lost_if_the_cloud_wrote_it_off(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, (0, 4)), (ONE, mixed(5, 5))])
    record(tmp_path / "cloud", [(ONE, (0, 4)), (ONE, mixed(5, 5))])
    assert compared(tmp_path) == expect(5, lost=5)


def test_rows_that_were_never_sent_are_lost_and_said_to_wait(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, mixed(0, 40)), (TWO, mixed(0, 10))])
    record(tmp_path / "cloud", [(ONE, (0, 1)), (ONE, mixed(2, 28))])
    assert compared(tmp_path) == expect(28, lost=22, waiting=20)


def test_a_row_that_was_written_off_does_not_wait(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, mixed(0, 6))])
    record(tmp_path / "cloud", [(ONE, mixed(0, 5)), (ONE, (5, 5))])
    assert compared(tmp_path) == expect(5, lost=1)


def test_rows_that_the_edge_has_trimmed_are_not_compared(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, (0, 9)), (ONE, mixed(10, 5))])
    record(tmp_path / "cloud", [(ONE, mixed(0, 15))])
    assert compared(tmp_path) == expect(5)


@pytest.mark.parametrize("first", [3, 7])
def test_a_planted_duplicate_in_the_same_segment_is_counted(tmp_path: Path, first: int) -> None:
    for side in ("edge", "cloud"):
        record(tmp_path / side, [(ONE, rows(0, 10))])
    plant(next((tmp_path / "cloud").glob("online-*")), ONE, first, rows(first, 1).tobytes())
    assert compared(tmp_path) == expect(10, duplicated=1)


def test_a_planted_duplicate_in_another_class_is_counted(tmp_path: Path) -> None:
    for side in ("edge", "cloud"):
        record(tmp_path / side, [(ONE, mixed(0, 15))])
    plant(next((tmp_path / "cloud").glob("demonstration-*")), ONE, 0, rows(0, 1).tobytes())
    assert compared(tmp_path) == expect(15, duplicated=1)


def test_a_duplicate_that_differs_counts_as_both(tmp_path: Path) -> None:
    for side in ("edge", "cloud"):
        record(tmp_path / side, [(ONE, rows(0, 10))])
    plant(next((tmp_path / "cloud").glob("online-*")), ONE, 4, rows(4, 2, salt=1).tobytes())
    assert compared(tmp_path) == expect(10, duplicated=2, differing=2)


def test_a_planted_differing_row_is_counted(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, rows(0, 10))])
    changed = rows(0, 10)
    changed["action.sent"][7] = 0.25
    record(tmp_path / "cloud", [(ONE, changed)])
    assert compared(tmp_path) == expect(10, differing=1)


def test_a_row_under_a_wrong_step_is_lost_and_doubled(tmp_path: Path) -> None:
    """The step that counts is the one that the row itself says."""
    record(tmp_path / "edge", [(ONE, rows(0, 10))])
    record(tmp_path / "cloud", [(ONE, rows(0, 5))])
    plant(next((tmp_path / "cloud").glob("online-*")), ONE, 5, rows(4, 1).tobytes())
    assert compared(tmp_path) == expect(5, lost=5, waiting=5, duplicated=1)


def test_two_schemas_are_not_compared(tmp_path: Path) -> None:
    record(tmp_path / "edge", [(ONE, rows(0, 10))])
    other = make_schema({}, box("action", [("dx", "m", -1, 1)]))
    with Log(tmp_path / "cloud") as log:
        log.open_stream(ONE, other)
        log.append(ONE, other.new())
        log.commit()
    with pytest.raises(SchemaMismatch, match=r"edge and cloud have different schemas; compare logs of one run"):
        compared(tmp_path)


def test_fields_that_were_coded_with_loss_are_left_out_and_named(tmp_path: Path) -> None:
    parts = [filmed_rows.filmed(0, 10), filmed_rows.filmed(10, 6)]
    filmed_rows.write(tmp_path / "edge", [np.concatenate(parts)])
    parts[1]["action.sent"][2] = 0.25
    parts[1][filmed_rows.DEPTH][4] += 1
    filmed_rows.write(tmp_path / "cloud", parts, codecs={filmed_rows.FRONT: "jpeg", filmed_rows.DEPTH: "png"})
    with Reader(tmp_path / "cloud") as reader:
        assert reader.lossy(STREAM) == {filmed_rows.FRONT}
    left_out = frozenset({filmed_rows.FRONT})
    assert compared(tmp_path) == replace(expect(16, differing=2), fields_left_out=left_out)
    assert expect(1) + compared(tmp_path) == replace(expect(17, differing=2), fields_left_out=left_out)


def test_without_loss_every_field_is_compared(tmp_path: Path) -> None:
    part = filmed_rows.filmed(0, 10)
    filmed_rows.write(tmp_path / "edge", [part])
    part[filmed_rows.FRONT][4, 3, 3] += 1
    filmed_rows.write(tmp_path / "cloud", [part], codecs={filmed_rows.FRONT: "zstd", filmed_rows.DEPTH: "png"})
    assert compared(tmp_path) == expect(10, differing=1)


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["gap", "silent"])
def test_rows_that_retention_dropped_are_not_lost_and_a_lost_one_beside_them_is(tmp_path: Path, planted: str) -> None:
    """Lost is step 3, which went with a dropped segment, as a gap or without a word; all demonstrations stay."""
    record(tmp_path / "edge", [(ONE, mixed(0, 1500, length=20)), (TWO, mixed(0, 40))])
    config = LogConfig(segment_bytes=96 * 1024, retention=RetentionConfig(keep_rows=300))
    with Log(tmp_path / "cloud", config) as log:
        for name, part in ((TWO, mixed(0, 40)), (ONE, mixed(0, 3, length=20))):
            log.open_stream(name, SCHEMA)
            log.append(name, part)
        log.append_gap(ONE, 3, 3)
        log.append(ONE, mixed(4, 1496, length=20))
        log.commit()
        assert sum(gap.last - gap.first + 1 for gap in log.gaps()) == 1
        while log.retain():
            pass
        gone = log.gone().rows
        assert gone > 300
    if planted == "silent":
        for file in (tmp_path / "cloud" / "dropped").glob("*.json"):
            footer = msgspec.json.decode(file.read_bytes(), type=Footer)
            bare = {n: replace(span, covered=span.rows) for n, span in footer.spans.items()}
            file.write_bytes(msgspec.json.encode(msgspec.structs.replace(footer, spans=bare)))
    found = compared(tmp_path)
    assert found.rows_dropped == gone
    assert found == replace(expect(1540 - 1 - gone, lost=1), rows_dropped=gone)
    assert (found + found).rows_dropped == 2 * gone


def test_what_is_dropped_counts_only_once_it_has_left(tmp_path: Path) -> None:
    for side in ("edge", "cloud"):
        record(tmp_path / side, [(ONE, mixed(0, 1500, length=20))], segment_bytes=96 * 1024)
    folder = min((tmp_path / "cloud").glob("online-*"))
    prepare(tmp_path / "cloud")
    keep_footer(folder)
    assert compared(tmp_path) == expect(1500)
    footer = Segment(folder).footer
    assert footer is not None
    folder.rename(tmp_path / "away")
    assert compared(tmp_path) == replace(expect(1500 - footer.rows), rows_dropped=footer.rows)
    (tmp_path / "cloud" / "dropped" / f"{folder.name}.json").unlink()
    assert compared(tmp_path) == expect(1500 - footer.rows, lost=footer.rows)


def test_overlapping_spans_are_taken_once() -> None:
    spans = [Span(1, 0, 9, 5, 5), Span(1, 5, 14, 6, 6), Span(1, 20, 29, 10, 10)]
    here = np.array([2, 4, 6, 15], np.uint64)
    assert _joined(spans) == [(0, 14), (20, 29)]
    missing = np.array([0, 1, 16, 17, 25], np.uint64)
    assert _lost(missing, here, spans) == (15 - 3 - 11) + 0 + 2
