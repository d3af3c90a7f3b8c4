"""Any history of appends, commits, restarts and trims leaves what a plain list would hold."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.user_rl.log.recorded import SCHEMA, rows
from user_rl.log import Gap, Log, LogConfig, Reader
from user_rl.rows import Klass

NAMES = ("a/1/r", "b/1/r")
CONFIG = LogConfig(segment_bytes=64 * 1024, max_bytes=4 * 64 * 1024)


@dataclass
class Model:
    """A stream as lists: one entry a step, its bytes or None for a gap."""

    steps: list[bytes | None] = field(default_factory=list)
    synced: int = -1
    kept: int = 0  # no step before this one may be missing for another reason than trimming

    def bytes_from(self, first: int) -> bytes:
        return b"".join(step for step in self.steps[first : self.synced + 1] if step is not None)


class History(RuleBasedStateMachine):
    """The log and the lists, side by side."""

    @initialize()
    def begin(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="log-history-"))
        self.models = {name: Model() for name in NAMES}
        self.acknowledged = dict.fromkeys(NAMES, -1)
        self.trimmed = False
        self.open()

    def open(self) -> None:
        self.log = Log(self.path, CONFIG)
        for name, model in self.models.items():
            assert self.log.open_stream(name, SCHEMA) == model.synced

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 120), klass=st.sampled_from(list(Klass)))
    def append(self, name: str, count: int, klass: Klass) -> None:
        model = self.models[name]
        records = rows(len(model.steps), count, klass=klass, length=7)
        self.log.append(name, records)
        model.steps += [row.tobytes() for row in records]

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 9))
    def gap(self, name: str, count: int) -> None:
        first = len(self.models[name].steps)
        self.log.append_gap(name, first, first + count - 1)
        self.models[name].steps += [None] * count

    @rule()
    def commit(self) -> None:
        if self.log.size_bytes() > (CONFIG.max_bytes or 0):
            self.trim(1.0)
        moved = {
            name: len(model.steps) - 1 for name, model in self.models.items() if len(model.steps) > model.synced + 1
        }
        assert self.log.commit() == moved
        for name, synced in moved.items():
            self.models[name].synced = synced

    @rule(share=st.floats(0, 1))
    def trim(self, share: float) -> None:
        self.acknowledged = {n: max(self.acknowledged[n], int(m.synced * share)) for n, m in self.models.items()}
        size = self.log.size_bytes()
        freed = self.log.trim(self.acknowledged)
        assert self.log.size_bytes() <= max(size, size - freed + 64 * 1024)
        assert freed == 0 or size > (CONFIG.max_bytes or 0)
        self.trimmed |= freed > 0

    @rule()
    def restart(self) -> None:
        self.log.close()
        for model in self.models.values():
            del model.steps[model.synced + 1 :]
        self.check_reader()
        self.open()

    def check_reader(self) -> None:
        with Reader(self.path) as reader:
            seqs = [seq for seq, _ in reader.tail(0, 2**30)]
            assert seqs == sorted(set(seqs))
            tailed = {name: b"".join(c.data for _, c in reader.tail(0, 2**30) if c.stream == name) for name in NAMES}
            for name, model in self.models.items():
                if model.synced >= 0:
                    assert reader.synced(name) == model.synced
                    assert tailed[name].endswith(model.bytes_from(reader.first_kept(name)))

    @invariant()
    def the_log_holds_what_the_lists_hold(self) -> None:
        for name, model in self.models.items():
            assert (self.log.synced(name), self.log.appended(name)) == (model.synced, len(model.steps) - 1)
            kept = self.log.first_kept(name)
            assert kept == 0 or (self.trimmed and kept <= self.acknowledged[name] + 1)
            chunks = self.log.read(name, kept, 2**30)
            assert b"".join(chunk.data for chunk in chunks) == model.bytes_from(kept)
            assert [g for g in self.log.gaps() if g.stream == name and g.first >= kept] == self.gaps_of(name, kept)
            self.check_episodes(name)

    def gaps_of(self, name: str, kept: int) -> list[Gap]:
        model, found = self.models[name], list[Gap]()
        for step in range(kept, model.synced + 1):
            if model.steps[step] is None:
                if found and found[-1].last == step - 1:
                    found[-1] = Gap(name, found[-1].first, step)
                else:
                    found.append(Gap(name, step, step))
        return found

    def check_episodes(self, name: str) -> None:
        """Every row of the log is in the table once."""
        held = sum(chunk.count for chunk in self.log.read(name, 0, 2**30))
        assert sum(episode.length + 1 for episode in self.log.episodes() if episode.stream == name) == held

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()
            shutil.rmtree(self.path)


@pytest.mark.slow
def test_any_history_leaves_what_a_list_would_hold() -> None:
    run_state_machine_as_test(
        History,
        settings=settings(
            max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
