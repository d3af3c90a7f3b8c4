"""cloud.disk: room to start, samples in time, one warning in the operator's words."""

import logging
import os
import re
from pathlib import Path

import pytest

from cloud.disk import SAMPLE_S, DiskConfig, DiskWatch, check_space, mount_of, used_and_free, write_bytes, write_hours
from user_rl.clock import FakeClock
from user_rl.errors import StorageFull

GB = 10**9


class Filling:
    """A disk that loses `bytes_per_s` to the run."""

    def __init__(self, clock: FakeClock, free: int, bytes_per_s: float) -> None:
        self._clock, self._free, self._bytes_per_s, self.asked = clock, free, bytes_per_s, 0

    def __call__(self, root: Path) -> tuple[int, int]:
        self.asked += 1
        used = round(self._clock.now_s() * self._bytes_per_s)
        return used, self._free - used


def watched(root: Path, disk: Filling, clock: FakeClock, for_s: float, **status: float) -> DiskWatch:
    watch = DiskWatch(root, DiskConfig(), clock=clock, measure=disk)
    until_s = clock.now_s() + for_s
    while clock.now_s() < until_s:
        watch.tick(status)
        clock.advance(0.25)
    return watch


def test_a_disk_is_sampled_at_once_and_then_every_ten_seconds(tmp_path: Path) -> None:
    clock = FakeClock()
    disk = Filling(clock, 100 * GB, 0.0)
    watch = watched(tmp_path, disk, clock, 0.25)
    assert watch.figures == {"disk_free_bytes": 100 * GB, "disk_bytes_per_hour": None, "disk_full_in_h": None}
    watched(tmp_path, disk, clock, 10 * SAMPLE_S)
    assert disk.asked == 11


def test_a_near_end_is_told_once_with_disk_space_rate_time_and_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    with caplog.at_level(logging.WARNING):
        watch = watched(tmp_path, Filling(clock, 36 * GB, 1e6), clock, 300.0, finished_share=0.5, wall_s=7200.0)
    [said] = [r.getMessage() for r in caplog.records]
    assert re.fullmatch(
        rf"the disk {re.escape(str(mount_of(tmp_path)))}, which holds {re.escape(str(tmp_path))}, has 35\.9 GB free "
        r"and fills at 3\.6 GB/h: full in 10\.0 h, the run is planned to end in 2\.0 h; delete runs that nobody needs, "
        r"or stop this one, move its folder to a larger disk and go on with user-rl resume FOLDER",
        said,
    )
    assert "35.7 GB free" in watch.trouble  # always with the newest figures
    assert watch.figures["disk_bytes_per_hour"] == pytest.approx(3.6 * GB)
    assert watch.figures["disk_full_in_h"] == pytest.approx(35.71 / 3.6, rel=1e-3)


def test_a_disk_with_room_for_days_is_no_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    watch = watched(tmp_path, Filling(clock, 36 * GB, 1e5), clock, 300.0)
    assert watch.trouble == ""
    assert not caplog.records
    assert watch.figures["disk_full_in_h"] == pytest.approx(100.0, rel=1e-2)


def test_trouble_ends_when_the_disk_no_longer_fills(tmp_path: Path) -> None:
    clock = FakeClock()
    disk = Filling(clock, 36 * GB, 1e6)
    watch = DiskWatch(tmp_path, DiskConfig(), clock=clock, measure=lambda root: disk(root) if busy else (0, 40 * GB))
    for busy in [True] * 30 + [False] * 90:
        watch.tick({})
        clock.advance(SAMPLE_S)
        if busy and clock.now_s() > 200:
            assert watch.trouble
    assert watch.trouble == ""


def test_nothing_starts_below_the_floor(tmp_path: Path) -> None:
    check_space(tmp_path / "runs" / "new", 2**20)
    with pytest.raises(
        StorageFull,
        match=rf"^the disk \S+, which holds {re.escape(str(tmp_path / 'runs' / 'new'))}, has \S+ [kMGT]B free, allowed "
        r"1\.15e\+03 PB or more to start a run; free space, or lower disk\.floor_bytes$",
    ):
        check_space(tmp_path / "runs" / "new", 2**60)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("key", "value"), [("floor_bytes", -1), ("warn_within_h", -1.0), ("warn_within_h", float("nan"))]
)
def test_a_floor_below_zero_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{key} = "):
        DiskConfig(**{key: value})  # type: ignore[arg-type]


def test_holes_in_files_take_no_space(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(os.urandom(100_000))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    used, free = used_and_free(tmp_path)
    assert 100_000 <= used < 200_000
    assert free > 0


def test_numbers_are_written_for_people() -> None:
    assert [write_bytes(n) for n in (0, 999, 999.6, 12_345, 1e9, 79.4e9)] == [
        "0 B",
        "999 B",
        "1 kB",
        "12.3 kB",
        "1 GB",
        "79.4 GB",
    ]
    assert [write_hours(h) for h in (0.5, 9.96, 12.3, 47, 100, 1e5)] == [
        "30 min",
        "10.0 h",
        "12 h",
        "47 h",
        "4 d",
        "over a year",
    ]
