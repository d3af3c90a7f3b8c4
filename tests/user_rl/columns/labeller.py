"""A program that labels without end, for a test that kills it: prints the first step that is not on disk yet."""

import sys
from pathlib import Path

import numpy as np

from user_rl.columns import Columns, column_from_name
from user_rl.columns.testing import Bounds

STREAM = "cell/boot/run"
COLUMN = column_from_name("embedding@dino-1", shape=(24,))
REWARD = column_from_name("reward@classifier-1")


def label_for_ever(path: Path) -> None:
    with Columns(path, Bounds({STREAM: 2**40}), wait_s=10.0) as columns:
        for column in (COLUMN, REWARD):
            columns.add(column)
        at = 0
        while columns.values(REWARD.identity, STREAM, np.array([at]))[1][0]:
            at += 1
        while True:
            ids = np.arange(at, at + 50)
            columns.write(COLUMN.identity, STREAM, ids, np.repeat(ids[:, None], 24, 1).astype("f4"))
            columns.write(REWARD.identity, STREAM, ids, ids / 2)
            columns.commit()
            at += 50
            sys.stdout.write(f"{at}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    label_for_ever(Path(sys.argv[1]))
