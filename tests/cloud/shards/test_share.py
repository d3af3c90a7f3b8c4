import re

import pytest

from cloud.ingest import GatewayConfig
from cloud.shards.share import Elsewhere, sum_elsewhere
from user_rl.errors import ConfigError


def test_what_is_elsewhere_is_the_sum_of_the_others() -> None:
    statuses = {
        0: {"online_rows": 10, "cells": ["a"], "shown": {"a": 1}},
        1: {"online_rows": 20, "cells": ["b", "c"], "shown": {"a": 2, "b": 1}},
        2: {"online_rows": 40, "cells": [], "shown": {"b": 4}},
    }
    assert sum_elsewhere(statuses, 0) == Elsewhere(online_rows=60, cells=2, shown={"a": 2, "b": 5})
    assert sum_elsewhere(statuses, 1) == Elsewhere(online_rows=50, cells=1, shown={"a": 1, "b": 4})


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"shards": 0}, "gateway.shards = 0, allowed 1 to 64"), ({"dead_after_s": 0.0}, "gateway.dead_after_s = 0.0")],
)
def test_a_run_without_a_shard_or_a_wait_cannot_be(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        GatewayConfig(**changes)  # type: ignore[arg-type]


def test_each_shard_listens_at_its_own_ports_and_the_first_takes_labels() -> None:
    config = GatewayConfig(labels_port=9)
    second = config.at(3, 4, shard=1)
    assert (config.at(1, 2).labels_port, second.labels_port, second.port) == (9, 0, 3)
