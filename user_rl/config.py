"""Configuration: typed, strict, frozen; a default lives in its dataclass and nowhere else.

Hydra composes plain trees out of `configs/` and the command line; `build` turns a tree into a dataclass and refuses
what it does not know, naming the nearest key. Below `main`, only typed objects travel.
"""

import dataclasses
import difflib
import importlib.resources
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

from user_rl.errors import ConfigError

T = TypeVar("T")
Tree = dict[str, Any]


def defaults(cls: type) -> Tree:
    """The defaults of a config dataclass as a plain tree; keys without a default are Hydra's `???`."""
    return {f.name: _default(f) for f in dataclasses.fields(cls)}


def build(cls: type[T], tree: Mapping[str, Any], path: str = "") -> T:
    """`cls` from `tree`; raises ConfigError naming the key, its value and what is allowed."""
    tree = {key: value for key, value in tree.items() if value != "???"}  # Hydra's word for what is not set
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]  # cls is a dataclass type
    for key in tree:
        if key not in known:
            raise ConfigError(f"{path}{key}: no such key, {nearest(str(key), list(known))}")
    missing = [n for n, f in known.items() if n not in tree and _default(f) == "???"]
    if missing:
        raise ConfigError(f"{path}{missing[0]}: not set; give {path}{missing[0]}=VALUE")
    try:
        return cls(**{key: _value(hints[key], value, f"{path}{key}") for key, value in tree.items()})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}{error}") from error  # the dataclass's own message begins with the key


def compose(root: str, overrides: Sequence[str], *, store: Mapping[str, Mapping[str, Tree]], package: str) -> Tree:
    """The tree that Hydra composes from `package`'s YAML, the `store` of {group: {name: tree}} and the overrides.

    Raises ConfigError for an override whose key or choice does not exist, with the nearest one.
    """
    choices = {group: [*nodes, *_yaml_names(package, group)] for group, nodes in store.items() if group}
    groups = [o for o in overrides if _key(o) in choices]
    for override in groups:
        _check_choice(override, choices)
    known = sorted({*choices, *_paths(_compose(root, groups, store, package), "")})
    for override in overrides:
        if not override.startswith("+") and _key(override) not in known:
            raise ConfigError(f"{_key(override)}: no such key, {nearest(_key(override), known)}")
    return _compose(root, [_whole(override) for override in overrides], store, package)


def nearest(key: str, known: list[str]) -> str:
    """What to say of a name that is not `known`: the nearest one, else all."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(known))}"


def _compose(root: str, overrides: Sequence[str], store: Mapping[str, Mapping[str, Tree]], package: str) -> Tree:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for group, nodes in store.items():
        for name, node in nodes.items():
            ConfigStore.instance().store(group=group or None, name=name, node=node, package=group or "_global_")
    try:
        with initialize_config_module(package, version_base="1.3"):
            tree = OmegaConf.to_container(hydra_compose(root, list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"the configuration {root} {' '.join(overrides)}: {error}".splitlines()[0]) from error
    return typing.cast(Tree, tree)


def _key(override: str) -> str:
    return override.split("=", 1)[0].lstrip("+~")


def _whole(override: str) -> str:
    """`KEY={A: B}` as Hydra takes it: told to add to the group of keys; what may not be there, `build` refuses."""
    return f"++{override}" if override.partition("=")[2].startswith("{") and override[0] not in "+~" else override


def _check_choice(override: str, choices: Mapping[str, Sequence[str]]) -> None:
    group, _, name = override.partition("=")
    if name not in choices[group]:
        raise ConfigError(f"{group}={name}: no such choice, {nearest(name, list(choices[group]))}")


def _yaml_names(package: str, group: str) -> list[str]:
    folder = importlib.resources.files(package) / group
    return (
        [f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")] if folder.is_dir() else []
    )


def _paths(tree: Tree, prefix: str) -> list[str]:
    below = [p for k, v in tree.items() if isinstance(v, dict) for p in _paths(v, f"{prefix}{k}.")]
    return [f"{prefix}{k}" for k in tree] + below


def _default(field: dataclasses.Field[Any]) -> Any:  # noqa: ANN401  # a default is any plain value
    if field.default_factory is not dataclasses.MISSING:
        return _plain(field.default_factory())
    return "???" if field.default is dataclasses.MISSING else _plain(field.default)


def _plain(value: Any) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _value(hint: Any, value: Any, path: str) -> Any:  # noqa: ANN401
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _value(next(a for a in args if a is not type(None)), value, path)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} = {value!r}, allowed a group of keys; give {path}.KEY=VALUE")
        return build(typing.cast(type, hint), value, f"{path}.")
    if origin is tuple:
        return tuple(_value(args[0], v, f"{path}[{i}]") for i, v in enumerate(_sequence(value, path)))
    if origin is dict and not isinstance(value, Mapping):
        raise ConfigError(f"{path} = {value!r}, allowed a group of keys; give {path}={{KEY: VALUE}}")
    if origin is dict or hint is Any:
        return value
    return _scalar(hint, value, path)


def _sequence(value: Any, path: str) -> Sequence[Any]:  # noqa: ANN401
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{path} = {value!r}, allowed a list; give {path}=[A,B]")
    return value


def _scalar(hint: Any, value: Any, path: str) -> Any:  # noqa: ANN401
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            allowed = ", ".join(str(m.value) for m in hint)
            raise ConfigError(f"{path} = {value!r}, allowed {allowed}; choose one of these") from error
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ConfigError(f"{path} = {value!r}, allowed a {hint.__name__}; change its value")
    return value
