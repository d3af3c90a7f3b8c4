"""The registry: kinds by name, from other packages too, and a clear line for what is not here."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from policies import registry
from policies.mlp_numpy import NumpyMlp
from policies.registry import Kind, config_type, kind_of, loader, make
from user_rl.errors import ConfigError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packages that name kinds: a good one, one that takes a name of ours, and two that are broken."""
    points = [
        EntryPoint(name, f"tests.policies.test_registry:{value}", registry.GROUP)
        for name, value in (
            ("rubber", "RUBBER"),
            ("mlp", "RUBBER"),
            ("gone", "GONE"),
            ("odd", "test_a_kind_is_found_by_its_name"),
        )
    ]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: EntryPoints(points).select(group=group))


RUBBER = Kind(
    load="policies.mlp_numpy:NumpyMlp",
    config="policies.config:PolicyConfig",
    make="no_such_module:make",
    extra="rubber",
)


def test_a_kind_is_found_by_its_name() -> None:
    assert loader("mlp") is NumpyMlp


def test_another_package_adds_a_kind(installed: None) -> None:
    assert loader("rubber") is NumpyMlp
    assert config_type("rubber").__name__ == "PolicyConfig"
    with pytest.raises(ConfigError, match=r"policy 'wood' is unknown here, allowed cnn, gone, mlp, odd, rubber; i"):
        kind_of("wood")


def test_a_module_that_is_missing_says_what_to_install(installed: None) -> None:
    with pytest.raises(ConfigError, match=r"a rubber policy needs no_such_module, .*; pip install '\.\[rubber\]'"):
        make("rubber", None, None, 0)  # type: ignore[arg-type]


def test_a_kind_that_imitation_cannot_teach_says_so() -> None:
    with pytest.raises(ConfigError, match="policy 'mlp' is made by its own algorithms alone"):
        make("mlp", None, None, 0)  # type: ignore[arg-type]


def test_no_package_takes_a_name_of_ours(installed: None) -> None:
    assert loader("mlp") is NumpyMlp


def test_a_broken_package_is_named_and_breaks_its_own_kind_alone(installed: None) -> None:
    with pytest.raises(ConfigError, match=r"policy 'gone' of tests.policies.test_registry:GONE cannot be imported"):
        kind_of("gone")
    with pytest.raises(ConfigError, match=r"policy 'odd': .* is a function, allowed a Kind; mend that package"):
        kind_of("odd")
    assert kind_of("rubber") is RUBBER
