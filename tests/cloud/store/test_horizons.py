"""The journal of draws: what a draw saw is what it sees again, whatever became of the files."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.store.horizons import MAGIC, Horizon, Horizons, Seen
from user_rl.errors import StorageError

ONE = Horizon(5, Seen(first=2, lost=((3, 4),), columns={"reward@c-1": 7}))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2**63), st.integers(0, 3)), max_size=30))
def test_what_a_draw_saw_last_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, kept: list[tuple[int, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "horizons"
    journal, wanted = Horizons(path), dict[int, Horizon]()
    for number, seq, first in kept:
        wanted[number] = Horizon(seq, Seen(first=first))
        journal.keep(number, wanted[number])
    journal.close()
    again = Horizons(path)
    assert [again.of(n) for n in range(32)] == [wanted.get(n) for n in range(32)]
    again.close()


def test_a_line_is_written_once_for_many_draws(tmp_path: Path) -> None:
    journal = Horizons(tmp_path / "horizons")
    for number in range(100):
        journal.keep(number, Horizon(number + 1, ONE.seen))
    journal.close()
    assert (tmp_path / "horizons.seen").read_bytes().count(b"\n") == 1
    assert (tmp_path / "horizons").stat().st_size == len(MAGIC) + 1600


@pytest.mark.parametrize("cut", [1, 5])
def test_a_torn_line_takes_the_draws_that_saw_it_and_no_other(tmp_path: Path, cut: int) -> None:
    path, lines = tmp_path / "horizons", tmp_path / "horizons.seen"
    journal = Horizons(path)
    journal.keep(0, Horizon(1))
    journal.keep(1, ONE)
    journal.close()
    lines.write_bytes(lines.read_bytes()[:-cut])
    again = Horizons(path)
    assert (again.of(0), again.of(1)) == (Horizon(1), None)
    again.keep(1, ONE)
    again.close()
    third = Horizons(path)
    assert third.of(1) == ONE
    third.close()


def test_a_journal_of_another_form_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "horizons").write_bytes(b"\1" * 80)
    journal = Horizons(tmp_path / "horizons")
    assert journal.of(2) is None
    journal.close()


def test_no_path_keeps_nothing_and_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    journal = Horizons(None)
    journal.keep(0, ONE)
    assert journal.of(0) is None
    journal.close()
    with pytest.raises(StorageError, match="gone/horizons: No such file or directory; make its folder writable"):
        Horizons(tmp_path / "gone" / "horizons")


def test_a_full_disk_stops_no_draw(tmp_path: Path) -> None:
    journal = Horizons(tmp_path / "horizons")
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, journal._lines)
    os.close(full)
    journal.keep(0, ONE)
    assert journal.of(0) is None
    journal.close()
