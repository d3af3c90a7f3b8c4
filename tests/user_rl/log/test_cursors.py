"""Cursors: durable, all or none, there again after a restart."""

from pathlib import Path

import pytest

from user_rl.errors import StorageBusy
from user_rl.log import Cursors


def test_cursors_are_there_after_a_restart(tmp_path: Path) -> None:
    with Cursors(tmp_path / "c") as cursors:
        assert (cursors.get("a"), cursors.get("a", 7), cursors.all()) == (-1, 7, {})
        cursors.put({"a": 3, "b": 2**40})
        cursors.put({"a": 4})
    with Cursors(tmp_path / "c") as cursors:
        assert cursors.all() == {"a": 4, "b": 2**40}
        assert cursors.get("b") == 2**40
        with pytest.raises(StorageBusy, match=r"this process has it open already"):
            Cursors(tmp_path / "c")
