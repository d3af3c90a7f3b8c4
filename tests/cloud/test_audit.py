"""Lines that follow each other: durable, chained, rotated with a word, and every removal shows."""

import logging
import multiprocessing
import re
from pathlib import Path

import msgspec
import pytest

from cloud.audit import Audit, AuditConfig, Line, files_of, lines_of, numbered, verify


class Wall:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def lines(home: Path) -> list[Line]:
    return [line for path in files_of(home) for line, _ in lines_of(path) if line is not None]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path, wall=Wall())


def write(audit: Audit, count: int) -> None:
    for number in range(count):
        audit.write("admin:me", "revoke", f"edge:arm-{number}")


def test_a_line_says_when_who_what_about_whom_and_how_it_ended(audit: Audit) -> None:
    audit.write("admin:me", "revoke", "edge:arm", "done")
    [line] = lines(audit.path.parent)
    assert (line.time_s, line.who, line.what, line.about, line.outcome, line.n) == (
        1000.0, "admin:me", "revoke", "edge:arm", "done", 1,
    )  # fmt: skip
    assert verify(audit.path.parent) == []
    for name in ("audit.jsonl", "audit.head"):
        assert (audit.path.parent / name).stat().st_mode & 0o777 == 0o600


def test_an_empty_log_is_whole(tmp_path: Path) -> None:
    assert verify(tmp_path) == []


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_removed_line_shows_wherever_it_was(audit: Audit, number: int) -> None:
    write(audit, 5)
    kept = audit.path.read_bytes().splitlines(keepends=True)
    audit.path.write_bytes(b"".join(kept[:number] + kept[number + 1 :]))
    assert verify(audit.path.parent)


@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_changed_line_shows_wherever_it_was(audit: Audit, number: int) -> None:
    write(audit, 5)
    kept = audit.path.read_bytes().splitlines(keepends=True)
    kept[number] = kept[number].replace(b"admin:me", b"admin:xy")
    audit.path.write_bytes(b"".join(kept))
    assert verify(audit.path.parent)


def test_a_log_that_was_emptied_shows(audit: Audit) -> None:
    write(audit, 3)
    audit.path.write_bytes(b"")
    [wrong] = verify(audit.path.parent)
    assert wrong == "the last line is 0, and audit.head has seen line 3: the last ones were removed"
    write(audit, 1)
    assert verify(audit.path.parent) == ["the lines up to 3 are gone, and no line says that they were rotated out"]


def test_a_log_without_its_head_is_not_trusted(audit: Audit) -> None:
    write(audit, 1)
    (audit.path.parent / "audit.head").unlink()
    assert verify(audit.path.parent) == ["audit.head is missing: the last lines may be, too"]


def test_a_line_cut_by_a_crash_is_named_and_the_next_ones_follow(audit: Audit) -> None:
    write(audit, 2)
    with audit.path.open("ab") as file:
        file.write(b'{"time_s":1000.0,"who":"adm')
    write(audit, 2)
    assert [line.n for line in lines(audit.path.parent)] == [1, 2, 3, 4]
    assert verify(audit.path.parent) == ["audit.jsonl: a line after 2 cannot be read: cut short by a crash, or changed"]


def test_a_crash_between_the_line_and_the_head_is_no_damage(audit: Audit) -> None:
    write(audit, 2)
    head = (audit.path.parent / "audit.head").read_bytes()
    write(audit, 1)
    (audit.path.parent / "audit.head").write_bytes(head)
    assert verify(audit.path.parent) == []


def test_old_files_go_only_with_a_line_that_names_them(tmp_path: Path) -> None:
    audit = Audit(tmp_path, AuditConfig(file_bytes=1000, files=3), wall=Wall())
    write(audit, 60)
    assert len(numbered(tmp_path)) == 3
    assert min(numbered(tmp_path)) > 1
    assert verify(tmp_path) == []
    rotated = [line for line in lines(tmp_path) if line.what == "rotated"]
    assert rotated
    assert all(re.fullmatch(r"audit\.\d+\.jsonl", line.about) for line in rotated)
    assert sum(path.stat().st_size for path in files_of(tmp_path)) < 4 * 2000


def test_a_removed_old_file_shows(tmp_path: Path) -> None:
    audit = Audit(tmp_path, AuditConfig(file_bytes=1000, files=3), wall=Wall())
    write(audit, 60)
    files_of(tmp_path)[0].unlink()
    [wrong] = verify(tmp_path)
    assert "are gone, and no line says that they were rotated out" in wrong


def test_the_same_refusal_is_a_line_a_minute_with_its_count(tmp_path: Path) -> None:
    wall = Wall()
    audit = Audit(tmp_path, wall=wall)
    for _ in range(100):
        audit.refused("edge:arm", "call", "not enrolled")
    wall.now_s += 61
    audit.refused("edge:arm", "call", "not enrolled")
    audit.refused("edge:other", "call", "not enrolled")
    assert [(line.who, line.outcome) for line in lines(tmp_path)] == [
        ("edge:arm", "refused: not enrolled"),
        ("edge:arm", "refused: not enrolled; 99 more since the last line"),
        ("edge:other", "refused: not enrolled"),
    ]


def test_a_line_that_no_disk_takes_is_an_error_and_is_counted_by_the_next(
    audit: Audit, caplog: pytest.LogCaptureFixture
) -> None:
    write(audit, 1)
    kept = audit.path.read_bytes()
    audit.path.unlink()
    audit.path.mkdir()  # nothing can be written there
    with caplog.at_level(logging.ERROR, "cloud.audit"):
        audit.write("admin:me", "revoke", "edge:arm")
    assert "the audit log misses admin:me revoke edge:arm (done)" in caplog.text
    audit.path.rmdir()
    audit.path.write_bytes(kept)
    audit.write("admin:me", "admit", "edge:arm")
    assert [(line.what, line.outcome) for line in lines(audit.path.parent)][1:] == [
        ("missed", "1 lines that no disk took"), ("admit", "done"),
    ]  # fmt: skip
    assert verify(audit.path.parent) == []


def test_a_long_text_is_cut(audit: Audit) -> None:
    audit.write("x" * 10_000, "y", "z")
    assert audit.path.stat().st_size < 2000


def _write_from_a_process(home: str) -> None:
    write(Audit(Path(home)), 10)


@pytest.mark.slow
def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_from_a_process, args=(str(tmp_path),)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [line.n for line in lines(tmp_path)] == list(range(1, 31))
    assert verify(tmp_path) == []
    assert msgspec.json.decode((tmp_path / "audit.head").read_bytes())["n"] == 30
