"""Quarantine: what is damaged is set aside with its reason, what is not serves, and no cursor is forgotten."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.recorded import SCHEMA, STREAM, mixed, rows
from user_rl.errors import StorageCorrupt
from user_rl.log import Log, LogConfig, Reader, verify
from user_rl.log.quarantine import Reason, damaged, problem_of, set_aside, set_aside_before
from user_rl.log.verify import examine

pytestmark = pytest.mark.slow
Damage = Callable[[Path], None]
SMALL = LogConfig(segment_bytes=96 * 1024)
COUNT = 1600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, COUNT, 40):
            log.append(STREAM, rows(first, 40))
            log.commit()
    return tmp_path


def sealed(path: Path) -> list[Path]:
    return sorted(file.parent for file in path.glob("*/footer.json"))


def truncate(folder: Path) -> None:
    data = (folder / "data.mdb").read_bytes()
    (folder / "data.mdb").write_bytes(data[: len(data) // 2])


def no_file(folder: Path) -> None:
    (folder / "data.mdb").unlink()


def no_environment(folder: Path) -> None:
    size = (folder / "data.mdb").stat().st_size
    (folder / "data.mdb").write_bytes(b"\0" * size)


def bad_meta(folder: Path) -> None:
    data = bytearray((folder / "data.mdb").read_bytes())
    data[4096 + 16] ^= 1
    (folder / "data.mdb").write_bytes(data)


def broken_footer(folder: Path) -> None:
    (folder / "footer.json").write_text("{")


def footer_of_another(folder: Path) -> None:
    footer = json.loads((folder / "footer.json").read_text())
    (folder / "footer.json").write_text(json.dumps(footer | {"rows": footer["rows"] + 1}))


DAMAGES = [truncate, no_file, no_environment, bad_meta, broken_footer, footer_of_another]
SAID = {
    "truncate": r"data\.mdb: \d+ bytes, sealed were \d+",
    "no_file": r"data\.mdb: is missing",
    "no_environment": r"data\.mdb: its first page is not one of LMDB",
    "bad_meta": r"data\.mdb: its meta pages are not those of LMDB",
    "broken_footer": r"footer\.json cannot be read: .*; restore this segment",
    "footer_of_another": r"footer\.json: class, number and rows \(.*\), expected \(",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_segment_is_set_aside_and_the_rest_serves(path: Path, damage: Damage, which: int) -> None:
    folder = sealed(path)[which]
    footer = json.loads((folder / "footer.json").read_text())
    (span,) = footer["spans"].values()
    assert problem_of(folder) == ""
    damage(folder)
    lost = range(span["first"], span["last"] + 1)
    with Log(path, SMALL) as log:
        assert log.synced(STREAM) == COUNT - 1
        held = SCHEMA.view(b"".join(chunk.data for chunk in log.read(STREAM, 0, 2**30)))
        assert held["step"].tolist() == [step for step in range(COUNT) if step not in lost]
        log.append(STREAM, rows(COUNT, 40))
        assert log.commit() == {STREAM: COUNT + 39}
        knows_rows = damage is not broken_footer
        assert log.gone().rows == (len(lost) if knows_rows and damage is not footer_of_another else log.gone().rows)
        assert log.gone().segments == 1
    (reason,) = set_aside_before(path)
    assert reason.segment == folder.name
    assert re.search(SAID[damage.__name__], reason.problems[0])
    assert reason.streams == ({STREAM: (span["first"], span["last"])} if knows_rows else {})
    assert not folder.exists()
    assert (path / "quarantine" / folder.name).is_dir()
    assert verify(path) == []
    with Log(path, SMALL) as log:
        assert (log.synced(STREAM), log.gone().segments) == (COUNT + 39, 1)


def test_numbers_of_commits_are_not_given_twice_when_the_newest_footer_is_lost(path: Path) -> None:
    with Log(path, SMALL) as log:
        while log._shelf.next_seq - log._shelf.segments[-1].first_seq < 3:
            log.append(STREAM, rows(log.synced(STREAM) + 1, 5))
            log.commit()
        end = log.synced(STREAM)
        before = log._shelf.next_seq
        for segment in log._shelf.segments:
            if not segment.footer:
                log._shelf.retire(segment)
    broken_footer(sealed(path)[-1])
    with Log(path, SMALL) as log:
        assert log._shelf.next_seq >= before
        assert log.synced(STREAM) < end  # nobody knows better: the edge sends again what it has
        log.append(STREAM, rows(log.synced(STREAM) + 1, 40))
        log.commit()
    with Reader(path) as reader:
        assert [seq for seq, _ in reader.tail(before - 1, 2**30)] != []


def test_a_cursor_that_only_the_damaged_segment_knew_is_written_down_first(path: Path) -> None:
    with Log(path, SMALL) as log:
        for segment in log._shelf.segments:
            if not segment.footer:
                log._shelf.retire(segment)
    truncate(sealed(path)[-1])
    for _ in range(2):
        with Log(path, SMALL) as log:
            assert log.synced(STREAM) == COUNT - 1
            assert log.first_kept(STREAM) == COUNT


def test_a_damaged_segment_that_is_still_written_stays_and_the_operator_is_told(path: Path) -> None:
    (active,) = [folder for folder in path.glob("online-*") if not (folder / "footer.json").exists()]
    truncate(active)
    for _ in range(2):
        with pytest.raises(
            StorageCorrupt, match=r"pages need more; it was still written and has the newest rows: rest"
        ):
            Log(path, SMALL)
        assert active.is_dir()
    assert not (path / "quarantine").exists()


def test_a_reader_leaves_damage_out_and_says_so_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two, *_ = sealed(path)
    truncate(one)
    with Reader(path) as reader:
        first = next(chunk.first for chunk in reader.read(STREAM, 0, 2**30))
        assert first > 0
        broken_footer(two)
        assert reader.synced(STREAM) == COUNT - 1  # what was read already stays
    with Reader(path) as reader:
        assert reader.read(STREAM, 0, 2**30)[0].first > first
        assert reader.synced(STREAM) == COUNT - 1
        subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=True)
        assert not two.exists()
        assert reader.read(STREAM, 0, 2**30)[0].first > first
    assert len([r for r in caplog.records if r.levelname == "WARNING" and two.name in r.getMessage()]) == 1
    assert f"its rows are left out: user-rl buffer verify {path} says more" in caplog.text


def test_flipped_bits_anywhere_are_found_in_a_child_and_set_aside(path: Path) -> None:
    """Pages of trees and of rows alike: whatever is flipped, what is left is what was written."""
    rng = np.random.default_rng(11)
    for folder in sealed(path)[:3]:
        data = bytearray((folder / "data.mdb").read_bytes())
        data[int(rng.integers(2 * 4096, len(data)))] ^= 1 << int(rng.integers(8))
        (folder / "data.mdb").write_bytes(data)
    expected = {folder.name for folder in sealed(path)[:3]}
    found = examine(path)
    assert found.segments.keys() == expected
    with Log(path, SMALL) as log:
        for name, problems in found.segments.items():
            log.quarantine(name, problems)
        held = SCHEMA.view(b"".join(chunk.data for chunk in log.read(STREAM, 0, 2**30)))
        assert held.tobytes() == rows(int(held["step"][0]), len(held)).tobytes()
        assert log.gone().rows == COUNT - len(held)
    assert verify(path) == []


READ = """
import sys
from pathlib import Path
from tests.user_rl.log.recorded import STREAM
from user_rl.log import Log, LogConfig
with Log(Path(sys.argv[1]), LogConfig(segment_bytes=96 * 1024)) as log:
    print(sum(chunk.count for chunk in log.read(STREAM, 0, 2**30)), log.synced(STREAM))
"""


@pytest.mark.parametrize("damage", [truncate, no_environment])
def test_no_damage_that_a_look_can_find_kills_its_reader(path: Path, damage: Damage) -> None:
    for folder in sealed(path):
        damage(folder)
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, synced = map(int, done.stdout.split())
    assert 0 < count < COUNT
    assert synced == COUNT - 1


def test_the_same_name_twice_in_quarantine_has_two_folders(tmp_path: Path) -> None:
    for expected in ("online-00000001", "online-00000001.1"):
        (tmp_path / "online-00000001").mkdir()
        where = set_aside(tmp_path, Reason(segment="online-00000001", problems=["x"], at_s=1.0))
        assert where.name == expected
    assert len(set_aside_before(tmp_path)) == 2


def test_a_sound_log_has_no_damage(tmp_path: Path) -> None:
    with Log(tmp_path, SMALL) as log:
        log.open_stream(STREAM, SCHEMA)
        for first in range(0, 900, 30):
            log.append(STREAM, mixed(first, 30))
            log.commit()
            assert damaged(tmp_path) == {}
