"""Registry: the kinds of policies, those of other packages too (entry points `user_rl.policies`).

A kind is named by strings, so that looking one up imports nothing: a light edge has no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Protocol

from policies.policy import Policy, SingleStep
from user_rl.errors import ConfigError
from user_rl.rows import Schema
from user_rl.specs import Array
from user_rl.versions import PolicySpec

if TYPE_CHECKING:
    from policies.trainable import Trainable

GROUP = "user_rl.policies"


class MakePolicy(Protocol):
    """What a version's tensors become."""

    def __call__(self, spec: PolicySpec, tensors: Mapping[str, Array], *, seed: int) -> SingleStep | Policy: ...


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Where the parts of a kind are, as `module:name`."""

    load: str  # a MakePolicy
    config: str = ""  # its dataclass; empty: one that only its own algorithms make
    make: str = ""  # (config, Schema, seed) -> Trainable
    extra: str = "edge-torch"  # what to install where its module does not import


KINDS = {
    "mlp": Kind(load="policies.mlp_numpy:NumpyMlp"),
    "cnn": Kind(load="policies.cnn:TorchCnn"),
}


def kind_of(name: str) -> Kind:
    """The kind; raises ConfigError for one that neither this project nor an installed package has.

    Another package's kind is imported when it is asked for and not before; it cannot take a name of this project's.
    """
    if name in KINDS:
        return KINDS[name]
    point = next((point for point in entry_points(group=GROUP) if point.name == name), None)
    if point is None:
        allowed = ", ".join(sorted({*KINDS, *entry_points(group=GROUP).names}))
        raise ConfigError(f"policy {name!r} is unknown here, allowed {allowed}; install what has it")
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"policy {name!r} of {point.value} cannot be imported: {error}; mend that package") from error
    if not isinstance(found, Kind):
        raise ConfigError(
            f"policy {name!r}: {point.value} is a {type(found).__name__}, allowed a Kind; mend that package"
        )
    return found


def loader(name: str) -> MakePolicy:
    """What makes the policy of a version that says `kind = name`."""
    made: MakePolicy = _part(name, kind_of(name).load)
    return made


def make(name: str, config: Any, schema: Schema, seed: int) -> "Trainable":  # noqa: ANN401
    """A fresh network of this kind for rows of `schema`; `config` is of the kind's dataclass."""
    where = kind_of(name).make
    if not where:
        raise ConfigError(f"policy {name!r} is made by its own algorithms alone; choose one that imitation can teach")
    made: Trainable = _part(name, where)(config, schema, seed)
    return made


def config_type(name: str) -> type[Any]:
    """The dataclass of its settings."""
    made: type[Any] = _part(name, kind_of(name).config)
    return made


def _part(name: str, where: str) -> Any:  # noqa: ANN401
    module, _, attribute = where.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        extra = kind_of(name).extra
        raise ConfigError(f"a {name} policy needs {error.name}, which is missing; pip install '.[{extra}]'") from error
