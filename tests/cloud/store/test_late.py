"""Late columns in batches: a reward, an outcome, a discarded episode; each as it was when the draw was first made."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloud.batch import Batch
from cloud.store.late import LateNames, columns_in, is_named
from cloud.store.replay import Replay, ReplayConfig
from cloud.testing import MemoryLog, state_schema
from tests.cloud.store.logs import STREAM, elsewhere, label, rows_of
from user_rl.clock import FakeClock
from user_rl.config import Tree
from user_rl.errors import ConfigError, NothingToDraw

SCHEMA = state_schema()
STATE = "observation.state"
ALL: Tree = {"name": "mixture", "parts": [
    {"share": 0.5, "sampler": {"name": "uniform"}}, {"share": 0.5, "sampler": {"name": "demonstrations"}}]}  # fmt: skip
STEPS = {row[STATE].tobytes(): int(row["step"]) for number in range(12) for row in rows_of(SCHEMA, number)}
OWN = np.concatenate([rows_of(SCHEMA, number)["next.reward"] for number in range(12)])


@contextmanager
def replay(run: Path, clock: FakeClock | None = None, **config: Any) -> Iterator[Replay]:  # noqa: ANN401
    log = MemoryLog(SCHEMA)
    for number in range(12):
        log.add(STREAM, rows_of(SCHEMA, number))
    config.setdefault("ahead", 0)
    config.setdefault("sampler", ALL)
    made = Replay(log, ReplayConfig(**config), SCHEMA, seed=1, run=run, clock=clock or FakeClock())
    with closing(made):
        made.catch_up()
        yield made


def steps(batch: Batch) -> list[int]:
    return [STEPS[state.tobytes()] for state in batch.observation[STATE]]


def rewards(run: Path, number: int, **config: Any) -> dict[int, float]:  # noqa: ANN401
    with replay(run, **config) as made:
        batch = made.sample(number, 1000)
    return dict(zip(steps(batch), batch.reward.tolist(), strict=True))


def test_a_reward_counts_where_it_is_there_and_only_when_the_config_names_it(tmp_path: Path) -> None:
    label(tmp_path, "reward@classifier-3", list(range(40, 60)), [0.25] * 20)
    (tmp_path / "other").mkdir()
    before = rewards(tmp_path / "other", 0)
    assert before == {step: float(OWN[step]) for step in before}
    found = rewards(tmp_path, 0, reward="reward@classifier-3")
    assert found == {step: 0.25 if 40 <= step < 60 else float(OWN[step]) for step in before}
    label(tmp_path, "reward@classifier-4", list(range(40, 60)), [0.5] * 20)
    assert rewards(tmp_path, 1, reward="reward@classifier-3")[45] == 0.25
    assert rewards(tmp_path, 2, reward="reward@classifier-4")[45] == 0.5
    assert rewards(tmp_path, 3, reward="reward@classifier")[45] == 0.5
    assert rewards(tmp_path, 4, reward="reward@other-1")[45] == OWN[45]


def test_a_required_reward_takes_out_the_rows_that_lack_it(tmp_path: Path) -> None:
    with replay(tmp_path, reward="reward@c-1", reward_required=True) as made:
        assert not made.can_sample()
        with pytest.raises(NothingToDraw):
            made.sample(0, 4)
    label(tmp_path, "reward@c-1", [41, 44, 0], [0.25, 0.5, 0.75])
    assert rewards(tmp_path, 1, reward="reward@c-1", reward_required=True) == {41: 0.25, 44: 0.5, 0: 0.75}


def test_rewards_of_several_steps_are_late_ones_each(tmp_path: Path) -> None:
    label(tmp_path, "reward@c-1", list(range(40, 48)), [2.0] * 8)
    with replay(tmp_path, reward="reward@c-1", shape={"name": "n_step", "length": 3, "gamma": 0.5}) as made:
        batch = made.sample(0, 1000)
    found = dict(zip(steps(batch), batch.reward.tolist(), strict=True))
    assert (found[40], found[46], found[47]) == (3.5, 3.25, 2.5)


@pytest.mark.parametrize("name", ["keep", "keep@anna", "keep@anna-2"])
def test_a_discarded_episode_is_not_drawn(tmp_path: Path, name: str) -> None:
    label(tmp_path, "keep@anna-1", [1, 5, 6], [0, 0, 0], per="episode")
    label(tmp_path, "keep@anna-2", [1, 5, 6, 7], [0, 0, 1, 0], per="episode")
    with replay(tmp_path, discard=name) as made:
        found = {step // 10 for step in steps(made.sample(0, 2000))}
    assert found == set(range(12)) - {1, 5, 7}


def test_every_persons_word_counts_unless_one_is_named(tmp_path: Path) -> None:
    label(tmp_path, "keep@anna-1", [5], [0], per="episode")
    label(tmp_path, "keep@bert-1", [5, 6], [1, 0], per="episode")
    label(tmp_path, "keeper@bert-1", [8], [0], per="episode")
    for number, (name, gone) in enumerate([("keep", {5, 6}), ("keep@anna", {5}), ("keep@bert", {6}), (None, set())]):
        with replay(tmp_path, discard=name) as made:
            assert {step // 10 for step in steps(made.sample(number, 2000))} == set(range(12)) - gone


def test_an_outcome_that_was_judged_again_counts(tmp_path: Path) -> None:
    label(tmp_path, "success@anna-1", [0, 1, 7], [0, 1, 0], per="episode")
    with replay(tmp_path, success="success@anna", sampler={"name": "demonstrations", "interventions": False}) as made:
        assert {step // 10 for step in steps(made.sample(0, 500))} == {1, 2}
    with replay(tmp_path, success="success@anna", sampler={"name": "outcome", "success": False}) as made:
        assert {step // 10 for step in steps(made.sample(1, 500))} == {7}


@pytest.mark.slow
@pytest.mark.parametrize("ahead", [0, 3])
def test_a_label_that_comes_later_changes_no_draw_that_was_made(tmp_path: Path, ahead: int) -> None:
    clock = FakeClock()
    learner: Tree = {"name": "prioritised"}
    config: dict[str, Any] = {"reward": "reward@c-1", "sampler": learner, "ahead": ahead}

    def draw(made: Replay, number: int) -> tuple[list[int], list[float]]:
        batch = made.sample(number, 64)
        made.learned(number, np.ones(64))
        return steps(batch), batch.reward.tolist()

    with replay(tmp_path, clock, **config) as made:
        drawn = [draw(made, n) for n in range(4)]
        elsewhere(
            f"logs.label(Path({str(tmp_path)!r}), 'reward@c-1', list(range(30, 120)), [9.0] * 90)\n"
            f"logs.label(Path({str(tmp_path)!r}), 'keep@anna-1', list(range(3, 11)), [0] * 8, per='episode')"
        )
        made.refresh()
        drawn += [draw(made, n) for n in range(4, 6)]
        assert not any(9.0 in values for _, values in drawn)
        clock.advance(2.0)
        made.refresh()
        assert made.columns == {"keep@anna-1": 1, "reward@c-1": 1}
        drawn += [draw(made, n) for n in range(6, 10 + ahead)]
        last = drawn[6 + ahead :]
        assert {value for _, values in last for value in values} == {9.0}
        assert {step // 10 for found, _ in last for step in found} == {11}
    with replay(tmp_path, **config) as made:
        assert [draw(made, n) for n in range(10 + ahead)] == drawn


def test_a_column_that_says_something_else_is_refused(tmp_path: Path) -> None:
    label(tmp_path, "success@anna-1", [5], [1], per="episode")
    label(tmp_path, "reward@c-1", [45], [1.0])
    with pytest.raises(ConfigError, match=r"replay.reward = success@anna: not one number for each row; name a column"):
        rewards(tmp_path, 0, reward="success@anna")
    with pytest.raises(ConfigError, match=r"replay.success = reward@c-1: not one number for each episode"):
        rewards(tmp_path, 1, success="reward@c-1")
    with pytest.raises(ConfigError, match=r"reward_required = true, allowed with replay.reward; name a column there"):
        rewards(tmp_path, 1, reward_required=True)
    with pytest.raises(ConfigError, match="device_rows = -1, allowed 0 or more"):
        rewards(tmp_path, 1, device_rows=-1)


def test_columns_are_named_in_full_by_writer_or_by_name() -> None:
    named = [name for name in ("keep", "keep@anna", "keep@anna-1", "keep@ann", "keep@anna-2", "kee") if
             is_named("keep@anna-1", name)]  # fmt: skip
    assert named == ["keep", "keep@anna", "keep@anna-1"]
    tree: Tree = {"name": "mixture", "parts": [{"sampler": {"name": "ready", "column": "embedding@x-1"}, "share": 1}]}
    assert columns_in(tree) == ("embedding@x-1",)
    assert columns_in(None) == ()
    wants = LateNames(reward="reward@c-1", others=("embedding@x-1",)).wants
    assert [wants(each) for each in ("reward@c-1", "embedding@x-1", "keep@anna-1")] == [True, True, False]
