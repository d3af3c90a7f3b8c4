"""Kill -9: a labeller dies at random moments, again and again; what it said is written is there, and nothing half."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.user_rl.columns.labeller import COLUMN, REWARD, STREAM
from user_rl.columns import ColumnReader

LIVES = 8
PROGRAM = Path(__file__).with_name("labeller.py")


def label_until_killed(path: Path, lines: int) -> int:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(path)], stdout=subprocess.PIPE, cwd=PROGRAM.parents[3]
    ) as labeller:  # fmt: skip
        assert labeller.stdout is not None
        reported = [labeller.stdout.readline() for _ in range(lines)]
        labeller.kill()
        reported += labeller.stdout.read().splitlines()
    return max(int(line) for line in reported if line.strip())


@pytest.mark.slow
def test_every_written_value_survives_kill_after_kill(tmp_path: Path) -> None:
    path, rng = tmp_path / "columns", np.random.default_rng(7)
    reported = 0
    seen: dict[str, int] = {}
    for _ in range(LIVES):
        reported = max(reported, label_until_killed(path, int(rng.integers(1, 40))))
        with ColumnReader(path) as reader:
            seqs = reader.seqs()
            for column in (COLUMN, REWARD):
                ids = np.arange(reported + 200)
                values, present = reader.values(column.identity, STREAM, ids)
                assert present[:reported].all()
                assert present.sum() == 50 * seqs[column.identity]  # whole commits
                assert not np.any(np.diff(present.astype(int)) > 0)
                wanted = ids if column is COLUMN else ids / 2
                assert np.array_equal(values.reshape(len(ids), -1)[present][:, -1], wanted[present])
                assert seqs[column.identity] >= seen.get(column.identity, 0)
            seen = seqs
    assert reported > 500
