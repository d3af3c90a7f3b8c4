"""The registry: kinds by name, from other packages too, and a clear line for what is not here."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from policies import registry
from policies.mlp_numpy import NumpyMlp
from policies.registry import Kind, config_type, kind_of, loader, make
from user_rl.errors import ConfigError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that names a kind of its own."""
    point = EntryPoint("rubber", "tests.policies.test_registry:RUBBER", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda *, group: [point] if group == registry.GROUP else [])
    registry._installed.cache_clear()
    yield
    registry._installed.cache_clear()


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
    with pytest.raises(ConfigError, match=r"policy 'wood' is unknown here, allowed cnn, .*mlp, rubber; install what"):
        kind_of("wood")


def test_a_module_that_is_missing_says_what_to_install(installed: None) -> None:
    with pytest.raises(ConfigError, match=r"a rubber policy needs no_such_module, .*; pip install '\.\[rubber\]'"):
        make("rubber", None, None, 0)  # type: ignore[arg-type]


def test_a_kind_that_imitation_cannot_teach_says_so() -> None:
    with pytest.raises(ConfigError, match="policy 'mlp' is made by its own algorithms alone"):
        make("mlp", None, None, 0)  # type: ignore[arg-type]
