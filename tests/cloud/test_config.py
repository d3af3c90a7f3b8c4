"""The launcher's configuration: what the command line says of the run's log reaches it, or is refused by name."""

import re

import pytest

from cloud.config import build_launch, compose_launch
from user_rl.errors import ConfigError
from user_rl.log import LogConfig

pytestmark = pytest.mark.slow


def log_of(*overrides: str) -> LogConfig:
    return build_launch(compose_launch(list(overrides))).log


def test_codecs_and_the_durability_class_are_keys_of_the_log() -> None:
    found = log_of("log.codecs={observation.state: zstd:5}", "log.group_ms=20", "log.segment_bytes=1000000")
    assert found == LogConfig(codecs={"observation.state": "zstd:5"}, group_ms=20.0, segment_bytes=1_000_000)
    assert log_of() == LogConfig()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "log.codecs={observation.stat: lz4}",
            "log.codecs.observation.stat: no field of the observation is called so; did you mean observation.state?",
        ),
        (
            "log.codecs={observation.state: jpeg:90}",
            "log.codecs.observation.state = jpeg:90: observation.state is float32[13], jpeg stores "
            "uint8[H, W, 1 or 3]; choose raw, lz4 or zstd",
        ),
        ("log.codec={observation.state: lz4}", "log.codec: no such key, did you mean log.codecs?"),
        ("log.codecs=jpeg", "log.codecs = 'jpeg', allowed a group of keys; give log.codecs={KEY: VALUE}"),
        (
            "log.codecs={observation.state: 5}",
            "log.codecs.observation.state = 5, allowed raw, lz4, zstd[:1..19], jpeg[:1..100], png, blank; choose "
            "one of these",
        ),
        ("log.commit=grup", "log.commit = 'grup', allowed each, group, nosync; did you mean group?"),
        (
            "log.commit=nosync",
            "log.commit = nosync, allowed each, group; only rows on the disk may be acknowledged",
        ),
    ],
)
def test_what_the_log_cannot_do_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        log_of(override)
    assert str(error.value) == message


def test_several_shards_need_the_learner_on_their_own_machine() -> None:
    said = "gateway.shards = 2 with ray.address=auto, allowed 1: one learner reads all shards from its own disk"
    with pytest.raises(ConfigError, match=re.escape(said)):
        build_launch(compose_launch(["gateway.shards=2", "ray.address=auto"]))
