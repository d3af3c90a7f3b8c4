"""Telemetry: one line about the steps of each interval, files of bounded size, and what a person sees of them."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.main import main
from edge.orders import Orders, Report
from edge.telemetry import FOLDER, Telemetry, TelemetryConfig, histograms, read_records, record_files
from edge.timings import BYTES, NAMES, Timings
from edge.timings_command import bars
from user_rl.clock import FakeClock
from user_rl.histogram import Histogram

ORDERS = Orders(run="run", boot="ab" * 16)
REPORT = Report(step=7, version=3, late=2, skipped=1, held=0, unserved=4)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def timings() -> Timings:
    return Timings(memoryview(bytearray(BYTES)))


Make = Callable[..., Telemetry]


@pytest.fixture
def make(tmp_path: Path, clock: FakeClock, timings: Timings) -> Make:
    return lambda **config: Telemetry(tmp_path, timings, TelemetryConfig(**config), clock)


def step(timings: Timings, took_s: float = 0.002, *, times: int = 1) -> None:
    for _ in range(times):
        timings.add([took_s] * len(NAMES))


def test_a_record_comes_when_it_is_due_and_says_what_happened_since_the_last(
    make: Make, clock: FakeClock, timings: Timings, tmp_path: Path
) -> None:
    telemetry = make(every_s=10.0)
    step(timings, 0.002, times=3)
    clock.advance(9.9)
    telemetry.turn(REPORT, ORDERS)
    assert telemetry.newest() is None
    clock.advance(0.1)
    telemetry.turn(REPORT, ORDERS)
    step(timings, 0.004)
    clock.advance(10.0)
    telemetry.turn(REPORT, ORDERS)
    first, second = read_records(tmp_path)
    assert (first.run, first.boot, first.step, first.version, first.over_s) == ("run", "ab" * 16, 7, 3, 10.0)
    assert (first.late, first.skipped, first.held, first.unserved) == (2, 1, 0, 4)
    assert [record.timings["work"].count for record in (first, second)] == [3, 1]
    assert second.timings["late"].p50_ms == second.timings["late"].max_ms == pytest.approx(4.0, rel=1e-3)
    newest = telemetry.newest()
    assert newest is not None
    assert json.loads(newest)["timings"]["work"]["count"] == 1


def test_percentiles_are_those_of_the_interval(make: Make, timings: Timings, tmp_path: Path) -> None:
    for ms in range(1, 1001):
        step(timings, ms * 1e-3 + 1e-7)
    make().write(REPORT, ORDERS)
    (record,) = read_records(tmp_path)
    one = record.timings["propose"]
    found = (one.p50_ms, one.p90_ms, one.p99_ms, one.p999_ms, one.max_ms)
    assert found == pytest.approx((500, 900, 990, 999, 1000), rel=1e-3)


def test_an_interval_without_a_step_leaves_no_record(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    telemetry = make(every_s=1.0)
    clock.advance(5.0)
    telemetry.turn(REPORT, ORDERS)
    telemetry.write(REPORT, ORDERS)
    assert not (tmp_path / FOLDER).exists()


def test_the_files_stay_within_their_size_and_the_oldest_goes(make: Make, timings: Timings, tmp_path: Path) -> None:
    telemetry = make(file_bytes=4096, files=3)
    for number in range(40):
        step(timings)
        telemetry.write(Report(step=number), ORDERS)
    files = record_files(tmp_path / FOLDER)
    assert len(files) == 3
    assert all(0 < file.stat().st_size <= 4096 for file in files)
    steps = [record.step for record in read_records(tmp_path)]
    assert steps == list(range(steps[0], 40))
    assert steps[0] > 0


def test_a_successor_goes_on_in_the_newest_file(make: Make, timings: Timings, tmp_path: Path) -> None:
    for _ in range(2):
        step(timings)
        make().write(REPORT, ORDERS)
    assert len(record_files(tmp_path / FOLDER)) == 1
    assert len(list(read_records(tmp_path))) == 2


def test_a_line_that_is_torn_is_left_out_and_the_next_one_is_whole(
    make: Make, timings: Timings, tmp_path: Path
) -> None:
    step(timings)
    make().write(REPORT, ORDERS)
    (file,) = record_files(tmp_path / FOLDER)
    os.truncate(file, file.stat().st_size - 20)
    step(timings)
    make().write(Report(step=8), ORDERS)
    assert [record.step for record in read_records(tmp_path)] == [8]


def test_a_disk_that_says_no_is_said_once_and_stops_nothing(
    make: Make, timings: Timings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    telemetry = make()
    for _ in range(3):
        step(timings)
        telemetry.write(REPORT, ORDERS)
    assert caplog.text.count("telemetry is not kept") == 1
    assert telemetry.newest() is not None


@pytest.mark.parametrize("wrong", [{"every_s": 0.0}, {"file_bytes": 100}, {"files": 1}])
def test_a_setting_out_of_bounds_is_named(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=re.escape(f"{name} = {value}, allowed ")):
        TelemetryConfig(**wrong)  # type: ignore[arg-type]


def test_records_add_up_to_all_that_was_counted(make: Make, timings: Timings, tmp_path: Path) -> None:
    telemetry = make()
    for took_s in (0.001, 0.002, 0.003):
        step(timings, took_s)
        telemetry.write(REPORT, ORDERS)
    found = histograms(read_records(tmp_path))
    assert set(found) == set(NAMES)
    assert found["late"].count == 3
    assert found["late"].percentile(100) == pytest.approx(0.003, rel=1e-3)


@pytest.fixture
def home(make: Make, timings: Timings, tmp_path: Path) -> Path:
    telemetry = make()
    for took_s, times in ((0.0001, 98), (0.004, 2)):
        step(timings, took_s, times=times)
        telemetry.write(REPORT, ORDERS)
    return tmp_path


def test_a_person_sees_a_table_and_how_late_steps_began(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timings", "--home", str(home)]) == 0
    said = capsys.readouterr().out
    assert "2 steps late, 1 skipped, 0 held, 4 without an action" in said
    assert re.search(r"^late +100 +0\.100 +0\.100 +4\.\d+ +4\.\d+ +4\.\d+ ", said, re.MULTILINE)
    assert re.search(r"up to 0.1 ms █+\S* +98.000% 98", said)
    assert re.search(r"up to 5 ms █+\S* +2.000% 2", said)


def test_the_same_as_json_of_the_newest_records(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timings", "--home", str(home), "--json", "--last", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["records"] == 1
    assert said["unserved"] == 4
    assert said["timings"]["late"]["count"] == 2
    assert said["timings"]["late"]["p99_ms"] == pytest.approx(4.0, rel=1e-3)


def test_a_home_without_telemetry_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["timings", "--home", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no telemetry; it comes some seconds after" in capsys.readouterr().err


def test_one_rare_step_still_has_a_bar_and_what_is_beyond_the_last_range_its_own_line() -> None:
    histogram = Histogram()
    histogram.counts[100] = 10**6
    histogram.add(3.0)
    lines = bars(histogram, 80).splitlines()
    assert "▏" in lines[-1] or "█" in lines[-1]
    assert lines[-1].strip().startswith("longer")
    assert bars(Histogram(), 80) == "no step has begun"
