"""user_rl.config: strict trees, with the path and the nearest key in every refusal."""

import dataclasses
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest

from user_rl.config import Tree, build, compose, defaults
from user_rl.errors import ConfigError


class Pace(StrEnum):
    REAL = "real"
    FREE = "free"


@dataclass(frozen=True, kw_only=True)
class Loop:
    rate_hz: float = 10.0
    pace: Pace = Pace.REAL
    names: tuple[str, ...] = ("a",)

    def __post_init__(self) -> None:
        if self.rate_hz <= 0:
            raise ValueError(f"rate_hz = {self.rate_hz}, allowed above 0; set the robot's control rate")


@dataclass(frozen=True, kw_only=True)
class Root:
    name: str
    steps: int = 3
    loop: Loop = Loop()
    robot: dict[str, Any] = field(default_factory=dict)
    path: str | None = None
    units: dict[str, str] = field(default_factory=dict)


STORE: dict[str, dict[str, Tree]] = {
    "": {"root": {**defaults(Root), "defaults": ["_self_", {"robot": "arm"}, {"experiment": None}]}},
    "robot": {"arm": {"name": "arm", "host": "h"}, "hand": {"name": "hand"}},
    "experiment": {},
}


def composed(*overrides: str) -> Root:
    return build(Root, compose("root", overrides, store=STORE, package="configs"))


def refuses(message: str, *overrides: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        composed(*overrides)


def test_defaults_come_from_the_dataclass_alone() -> None:
    tree = defaults(Root)
    assert tree["loop"] == {"rate_hz": 10.0, "pace": "real", "names": ["a"]}
    assert tree["name"] == "???"
    assert build(Root, tree | {"name": "x"}) == Root(name="x")


def test_overrides_reach_every_depth_and_choose_groups() -> None:
    root = composed("name=x", "loop.rate_hz=5", "loop.pace=free", "loop.names=[b,c]", "robot=hand", "path=/p")
    assert dataclasses.asdict(root) == {
        "name": "x", "steps": 3, "loop": {"rate_hz": 5.0, "pace": Pace.FREE, "names": ("b", "c")},
        "robot": {"name": "hand"}, "path": "/p", "units": {},
    }  # fmt: skip


def test_a_group_of_keys_is_given_whole() -> None:
    assert composed("name=x", "units={a.*: jpeg:90, b: m}").units == {"a.*": "jpeg:90", "b": "m"}
    assert composed("name=x", "loop={rate_hz: 2}").loop == Loop(rate_hz=2.0)
    refuses("loop.rate: no such key, did you mean rate_hz?", "name=x", "loop={rate: 2}")
    refuses("unit: no such key, did you mean units?", "name=x", "unit={a: b}")
    refuses("units = 'm', allowed a group of keys; give units={KEY: VALUE}", "name=x", "units=m")


def test_a_typo_names_the_nearest_key() -> None:
    refuses("loop.rate_h: no such key, did you mean loop.rate_hz?", "name=x", "loop.rate_h=5")
    refuses("stepps: no such key, did you mean steps?", "stepps=5")


def test_a_key_pushed_past_hydra_is_refused_all_the_same() -> None:
    refuses("loop.rate: no such key, did you mean rate_hz?", "name=x", "+loop.rate=5")


def test_an_unknown_choice_names_what_exists() -> None:
    refuses("robot=leg: no such choice, allowed: arm, hand", "robot=leg")
    refuses("robot=han: no such choice, did you mean hand?", "robot=han")


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^experiment=nothing_like_it: no such choice"):
        composed("experiment=nothing_like_it")


def test_a_wrong_type_names_the_value_and_what_was_allowed() -> None:
    refuses("steps = 'many', allowed a int; change its value", "name=x", "steps=many")
    refuses("steps = True, allowed a int; change its value", "name=x", "steps=true")
    refuses("loop.pace = 'fast', allowed real, free; choose one of these", "name=x", "loop.pace=fast")
    refuses("loop.names = 'b', allowed a list; give loop.names=[A,B]", "name=x", "loop.names=b")
    refuses("loop = 3, allowed a group of keys; give loop.KEY=VALUE", "name=x", "loop=3")


def test_a_dataclass_own_limits_are_told_with_their_path() -> None:
    refuses("loop.rate_hz = 0.0, allowed above 0; set the robot's control rate", "name=x", "loop.rate_hz=0")


def test_what_has_no_default_must_be_given() -> None:
    with pytest.raises(ConfigError, match=r"^name: not set; give name=VALUE$"):
        build(Root, {"steps": 1})


def test_a_broken_override_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        composed("name=[[")
    assert "\n" not in str(caught.value)


def test_what_hydra_leaves_open_is_not_set() -> None:
    with pytest.raises(ConfigError, match=r"^cell\.name: not set; give cell\.name=VALUE$"):
        build(Root, {"name": "???"}, "cell.")
