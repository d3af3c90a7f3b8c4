"""Reads HIL-SERL's pickles: a list of transitions, dicts of observations, actions, next_observations, rewards, masks,
dones and perhaps infos, as its recording scripts and its actor leave them in `*.pkl`.

A pickle can run any code when it is read, so this is for files that the operator trusts, and even then only numpy's
arrays and plain containers are made: every other name in the file is refused (`_Plain.find_class`).

An observation with a leading axis of length 1 (ChunkingWrapper with a horizon of 1) loses it. `masks` 0 is a real end
and `dones` with `masks` 1 a time limit. Where the next observation is not the following one (a piece was left out, as
in buffers of interventions), the episode is cut there, so that no transition leads to another moment.
"""

import io
import pickle
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloud.datasets.mapping import PICTURES, Names
from cloud.datasets.recorded import Column, Raw
from user_rl.errors import ConfigError, SpecError, StorageCorrupt
from user_rl.specs import Array

RATE_HZ = 10.0  # of its environments
NEEDED = ("observations", "actions", "next_observations", "rewards", "dones")
SCALARS = {"rewards": "next.reward", "ends": "next.done", "time_limits": "next.truncated", "succeeded": "next.success",
           "intervened": "is_intervention"}  # fmt: skip
ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"), ("numpy._core.numeric", "_frombuffer"), ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # how protocol 2 writes bytes
    ("builtins", "bytearray"), ("builtins", "complex"), ("builtins", "set"), ("builtins", "frozenset"),
}  # fmt: skip


class _Plain(pickle.Unpickler):
    """Makes arrays and containers, nothing else."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        place = "numpy._core" + module.removeprefix("numpy.core") if module.startswith("numpy.core.") else module
        if (place, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, allowed are numpy arrays and plain values")
        return super().find_class(place, name)


@dataclass
class _Steps:
    """Transitions of one episode, one behind the other."""

    where: str
    items: list[Mapping[str, Any]]


class HilSerlPickles:
    """See cloud.datasets.recorded.Dataset. One file, or a folder of `*.pkl` in the order of their names."""

    def __init__(self, path: Path, *, trusted: bool) -> None:
        """Raises ConfigError unless the operator said that the file is `trusted`."""
        if not trusted:
            raise ConfigError(f"{path}: a pickle can run code when it is read; give --trust-pickle if you made it")
        self._paths = sorted(path.glob("*.pkl"), key=_order) if path.is_dir() else [path]
        if not self._paths or not self._paths[0].is_file():
            raise ConfigError(f"{path}: no pickle is there; give a .pkl file or a folder of them")
        self.name, self.rate_hz = f"hil-serl-{path.stem}", RATE_HZ
        self._seen: dict[str, Array] = {}
        self.cuts = 0
        first = next(self._pieces())
        self._seen = _observed(first.items[0]["observations"], first.where)
        self.columns = self._columns(first)
        self.usual = self._usual()

    def files(self) -> list[Path]:
        return self._paths

    def episodes(self, wanted: Set[str]) -> Iterator[Raw]:
        self.cuts = 0
        for piece in self._pieces():
            yield self._raw(piece, wanted)

    def close(self) -> None:
        """Nothing is open."""

    def _pieces(self) -> Iterator[_Steps]:
        """Episodes, which may go on from file to file, and the parts of those that lack a piece."""
        open_piece: _Steps | None = None
        for path in self._paths:
            for number, item in enumerate(load(path)):
                where = f"{path}: transition {number}"
                _check_item(item, where)
                if open_piece and not _follows(open_piece.items[-1], item):
                    self.cuts += 1
                    yield open_piece
                    open_piece = None
                open_piece = open_piece or _Steps(f"{path}: episode at transition {number}", [])
                open_piece.items.append(item)
                if np.any(item["dones"]):
                    yield open_piece
                    open_piece = None
        if open_piece:
            raise SpecError(
                f"{open_piece.where} has no end (dones) after {len(open_piece.items)} transitions, allowed are whole "
                "episodes; remove these from the list"
            )

    def _raw(self, piece: _Steps, wanted: Set[str]) -> Raw:
        items, count = piece.items, len(piece.items)
        before = [_observed(item["observations"], piece.where) for item in items]
        after = _observed(items[-1]["next_observations"], piece.where)
        table = {name: _stacked([seen.get(name) for seen in before], piece.where, name) for name in self._seen}
        real = [not np.any(item["masks"]) if "masks" in item else bool(np.any(item["dones"])) for item in items]
        table["actions"] = _stacked([np.asarray(item["actions"]) for item in items], piece.where, "actions")
        table["rewards"] = np.array([float(np.asarray(item["rewards"])) for item in items])
        table["ends"] = np.array(real)
        table["time_limits"] = np.array([False] * (count - 1) + [not real[-1]])
        table["succeeded"] = np.array([_succeeded(item) for item in items])
        table["intervened"] = np.array(["intervene_action" in _infos(item) for item in items])
        return Raw(
            where=piece.where, columns={name: table[name] for name in sorted(wanted)},
            after={name: after[name] for name in sorted(wanted) if name in self._seen and name in after},
            stamps_s=np.arange(count) / RATE_HZ,
        )  # fmt: skip

    def _columns(self, first: _Steps) -> dict[str, Column]:
        found = {name: Column(shape=v.shape, is_picture=_is_picture(v)) for name, v in self._seen.items()}
        found["actions"] = Column(shape=np.asarray(first.items[0]["actions"]).shape, is_picture=False)
        return found | {name: Column(shape=(), is_picture=False) for name in SCALARS}

    def _usual(self) -> Names:
        names: Names = {"action": ("actions",), **{ours: (theirs,) for theirs, ours in SCALARS.items()}}
        pictures = {PICTURES + name: (name,) for name, value in self._seen.items() if _is_picture(value)}
        numbers = tuple(sorted(name for name, value in self._seen.items() if not _is_picture(value)))
        return names | pictures | ({"observation.state": numbers} if numbers else {})


def load(path: Path) -> Sequence[Any]:
    """The list in a pickle, of arrays and plain values only; raises StorageCorrupt or SpecError."""
    try:
        found = _Plain(io.BytesIO(path.read_bytes())).load()  # --trust-pickle, and find_class refuses
    except pickle.UnpicklingError as error:
        raise SpecError(f"{path}: {error}; this file is not read") from error
    except (EOFError, OSError, ValueError, TypeError, AttributeError, ImportError, IndexError, KeyError) as error:
        raise StorageCorrupt(f"{path}: cannot be read: {error or 'it ends too early'}; copy it again") from error
    if not isinstance(found, list) or not found:
        raise SpecError(f"{path}: holds a {type(found).__name__}, allowed a list of one or more transitions")
    return found


def _check_item(item: object, where: str) -> None:
    if not isinstance(item, Mapping):
        raise SpecError(f"{where} is a {type(item).__name__}, allowed a dict with {', '.join(NEEDED)}")
    lacking = [name for name in NEEDED if name not in item]
    if lacking:
        raise SpecError(f"{where} has no {lacking[0]}, allowed are {', '.join(NEEDED)}; record it again")


def _observed(found: object, where: str) -> dict[str, Array]:
    """The observation's arrays by name, without a leading axis of length 1."""
    tree = found if isinstance(found, Mapping) else {"state": found}
    return {str(name): _newest(np.asarray(value), f"{where}: {name}") for name, value in tree.items()}


def _newest(value: Array, what: str) -> Array:
    if value.ndim in (2, 4):
        if len(value) != 1:
            raise SpecError(f"{what} has {len(value)} moments in one observation, allowed 1; record with obs_horizon=1")
        value = value[0]
    return value


def _follows(item: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    one, two = _observed(item["next_observations"], ""), _observed(after["observations"], "")
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def _stacked(values: Sequence[Any], where: str, name: str) -> Array:
    shapes = {None if value is None else value.shape for value in values}
    if len(shapes) != 1 or None in shapes:
        raise SpecError(f"{where}: {name} has the shapes {shapes}, allowed one in all transitions; record it again")
    return np.stack(values)


def _succeeded(item: Mapping[str, Any]) -> bool:
    return bool(_infos(item).get("succeed", np.any(np.asarray(item["rewards"]) > 0) and np.any(item["dones"])))


def _infos(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found = item.get("infos")
    return found if isinstance(found, Mapping) else {}


def _is_picture(value: Array) -> bool:
    return value.dtype == np.uint8 and value.ndim == 3


def _order(path: Path) -> tuple[int, str]:
    digits = "".join(c for c in path.stem if c.isdigit())
    return (int(digits) if digits else -1, path.name)
