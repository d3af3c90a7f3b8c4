"""What acts: the newest version that can be loaded, and only on rows that it was made for."""

import logging
import re
from pathlib import Path

import pytest

from cloud.inference.brain import Brain
from cloud.inference.config import ServingConfig
from cloud.weights import WeightStore
from tests.edge.inference.rig import SCHEMA, publish
from tests.edge.rig import SCHEMA as OTHER
from user_rl.config import build
from user_rl.errors import ConfigError, SchemaMismatch, StorageError
from user_rl.rows import make_schema
from user_rl.specs import box
from user_rl.versions import version_folder


class Source:
    """A store, of which a version is named by hand."""

    def __init__(self, path: Path) -> None:
        self.store, self.number, self.fails = WeightStore(path), 0, False

    def __call__(self) -> Path | None:
        if self.fails:
            raise StorageError("the disk is away")
        return version_folder(self.store.root, self.number) if self.number else None


@pytest.fixture
def source(tmp_path: Path) -> Source:
    made = Source(tmp_path / "weights")
    publish(made.store, 0.5)
    publish(made.store, -0.5)
    return made


def number(brain: Brain) -> int:
    return 0 if brain.loaded is None else brain.loaded.version.number


def test_what_the_source_names_acts_an_older_one_too(source: Source) -> None:
    brain = Brain(source, ServingConfig())
    brain.refresh()
    assert number(brain) == 0
    for wanted in (1, 2, 1):
        source.number = wanted
        brain.refresh()
        assert number(brain) == wanted


def test_an_unchanged_version_is_not_loaded_again(source: Source) -> None:
    brain, source.number = Brain(source, ServingConfig()), 1
    brain.refresh()
    first = brain.loaded
    brain.refresh()
    assert brain.loaded is first


def test_a_version_that_cannot_be_loaded_is_named_once_and_the_one_before_it_goes_on(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    brain, source.number = Brain(source, ServingConfig()), 1
    brain.refresh()
    source.number = 2
    (version_folder(source.store.root, 2) / "weights.safetensors").write_bytes(b"damaged")
    brain.refresh()
    source.fails = True
    brain.refresh()
    source.fails = False
    brain.refresh()
    assert number(brain) == 1
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 2
    assert "is 7 bytes of sha256" in told[0]
    assert told[1] == "the disk is away; inference goes on with the version before it"


def test_a_version_is_tried_on_the_rows_that_are_known_before_it_acts(
    source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    wide = make_schema({"observation.state": box("state", [(c, "m", -1, 1) for c in "abc"])}, SCHEMA.action)
    source.number = 1
    brain = Brain(source, ServingConfig())
    brain._schemas[SCHEMA.digest] = wide.observation  # what no schema can be: three elements where two were meant
    brain.refresh()
    assert number(brain) == 0
    assert "version 1 cannot act on its own rows: " in caplog.text


def test_only_rows_that_the_version_was_made_for_are_known(source: Source) -> None:
    brain, source.number = Brain(source, ServingConfig()), 1
    with pytest.raises(SchemaMismatch, match=f"rows of schema {SCHEMA.digest[:8]}, allowed none yet; show it"):
        brain.specs(SCHEMA.digest)
    brain.refresh()
    brain.learn(OTHER.encoded)
    assert not brain.knows_schema
    with pytest.raises(SchemaMismatch, match=f"rows of schema {OTHER.digest[:8]}, allowed {SCHEMA.digest[:8]}"):
        brain.specs(OTHER.digest)
    brain.learn(SCHEMA.encoded)
    assert brain.knows_schema
    assert brain.specs(SCHEMA.digest) == SCHEMA.observation


def test_schemas_that_are_shown_are_bounded_but_the_right_one_is_always_taken(source: Source) -> None:
    brain, source.number = Brain(source, ServingConfig()), 1
    brain.refresh()
    for n in range(100):
        state = box("state", [(f"x{n}", "m", -1, 1)])
        brain.learn(make_schema({"observation.state": state}, SCHEMA.action).encoded)
    assert len(brain._schemas) == 8
    brain.learn(SCHEMA.encoded)
    assert brain.knows_schema


def test_bounds_that_cannot_be_are_refused() -> None:
    message = (
        "inference: line = 1, each = 2, threads = 1, keep_versions = 3, allowed 1 or more, and line not below each"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(ServingConfig, {"line": 1})
