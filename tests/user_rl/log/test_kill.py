"""Kill -9: a writer process dies at random moments, again and again; what it called synced is there, once, the same."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.log.recorded import STREAM, mixed
from user_rl.log import Log, LogConfig, Reader, verify

LIVES = 8
PROGRAM = Path(__file__).with_name("recorded.py")


def write_until_killed(path: Path, seed: int, lines: int) -> int:
    """Lets a writer report `lines` commits, kills it while it goes on, and returns the last step it called synced."""
    command = [sys.executable, str(PROGRAM), str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=PROGRAM.parents[3]) as writer:
        assert writer.stdout is not None
        for _ in range(lines):
            assert writer.stdout.readline()
        writer.kill()
        reported = writer.stdout.read().splitlines()
    whole = [int(line) for line in reported if line.strip()]
    return whole[-1] if whole else -1


@pytest.mark.slow
def test_every_synced_row_survives_kill_after_kill(tmp_path: Path) -> None:
    path, rng = tmp_path / "log", np.random.default_rng(5)
    reported = -1
    for life in range(LIVES):
        reported = max(reported, write_until_killed(path, life, int(rng.integers(1, 30))))
        with Reader(path) as reader:
            synced = reader.synced(STREAM)
            assert synced >= reported
            assert b"".join(c.data for c in reader.read(STREAM, 0, 2**30)) == mixed(0, synced + 1, length=20).tobytes()
            scanned = np.concatenate([reader.streams()[STREAM].view(c.data)["step"] for c in reader.scan(STREAM)])
            assert sorted(scanned.tolist()) == list(range(synced + 1))
            seqs = [seq for seq, _ in reader.tail(0, 2**30)]
            assert seqs == list(range(1, len(seqs) + 1))
            assert [e.closed for e in reader.episodes()][:-1] == [True] * (len(reader.episodes()) - 1)
    assert len(list(path.glob("*/footer.json"))) >= 2
    assert verify(path) == []
    with Log(path, LogConfig(segment_bytes=96 * 1024)) as log:
        assert log.epoch == LIVES + 1
        log.append(STREAM, mixed(synced + 1, 7, length=20))
        assert log.commit() == {STREAM: synced + 7}
