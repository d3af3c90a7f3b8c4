"""Reads robomimic's HDF5 files: `data/demo_*` with obs, next_obs, actions, rewards and dones; `mask/*` names parts.

Source: robomimic.github.io, "Dataset structure". What a file need not have (next_obs, rewards, dones) may be absent.
Numbers observed are put behind each other, by name, as `observation.state`, pictures keep their names without `_image`;
a map chooses otherwise.
"""

import json
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

import numpy as np

from cloud.datasets.libraries import library
from cloud.datasets.mapping import PICTURES, Names
from cloud.datasets.recorded import Column, Raw
from user_rl.errors import ConfigError, SpecError, StorageCorrupt
from user_rl.specs import Array

USUAL_HZ = 20.0  # of robosuite, where env_args does not say
STEPS = {"actions": "action", "rewards": "next.reward", "dones": "next.done"}


class RobomimicFile:
    """See cloud.datasets.recorded.Dataset."""

    def __init__(self, path: Path, *, part: str | None = None) -> None:
        """`part`: only the demonstrations that `mask/PART` names."""
        if not path.is_file():
            raise ConfigError(f"{path}: no file is there; give a robomimic HDF5 file")
        self.path, self.name = path, f"robomimic-{path.stem}"
        try:
            self._file = library("h5py").File(path, "r")
        except OSError as error:
            raise StorageCorrupt(f"{path}: is no whole HDF5 file: {error}; copy it again") from error
        self._data = self._file.get("data")
        if self._data is None or not len(self._data):
            raise ConfigError(f"{path}: has no demonstrations (data/demo_0 is missing); give a robomimic HDF5 file")
        self._demos = self._chosen(part)
        self.rate_hz = self._rate_hz()
        first = self._data[self._demos[0]]
        self.columns = self._columns(first)
        self.usual = self._usual()

    def files(self) -> list[Path]:
        return [self.path]

    def episodes(self, wanted: Set[str]) -> Iterator[Raw]:
        for demo in self._demos:
            where = f"{self.path}: {demo}"
            columns = {name: self._read(demo, self._place(name)) for name in sorted(wanted)}
            count = len(self._read(demo, "actions"))
            if not count:
                raise SpecError(f"{where} has no step, allowed one or more; leave it out")
            after = {}
            if "next_obs" in self._data[demo]:
                seen = [name for name in sorted(wanted) if name not in STEPS]
                after = {name: self._read(demo, f"next_obs/{name}", at=count - 1) for name in seen}
            yield Raw(where=where, columns=columns, after=after, stamps_s=np.arange(count) / self.rate_hz)

    def close(self) -> None:
        self._file.close()

    def _chosen(self, part: str | None) -> list[str]:
        if part is None:
            return sorted(self._data, key=_number)
        masks = self._file.get("mask", {})
        if part not in masks:
            raise ConfigError(f"{self.path}: no mask {part}, allowed {', '.join(masks) or 'none'}; choose one of these")
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in masks[part][()]]
        for name in names:
            if name not in self._data:
                raise StorageCorrupt(f"{self.path}: mask/{part} names {name}, which is not there; copy the file again")
        if not names:
            raise ConfigError(f"{self.path}: mask/{part} is empty; choose another")
        return sorted(names, key=_number)

    def _rate_hz(self) -> float:
        try:
            arguments = json.loads(self._data.attrs.get("env_args", "{}"))
            rate_hz = float(arguments.get("env_kwargs", {}).get("control_freq", USUAL_HZ))
        except (ValueError, TypeError, AttributeError) as error:
            raise StorageCorrupt(f"{self.path}: env_args cannot be read: {error}; mend the attribute") from error
        return rate_hz if rate_hz > 0 else USUAL_HZ

    def _columns(self, first: Any) -> dict[str, Column]:  # noqa: ANN401
        found = {name: first[name] for name in STEPS if name in first}
        found |= {name: values for name, values in first.get("obs", {}).items() if hasattr(values, "dtype")}
        return {
            name: Column(shape=values.shape[1:], is_picture=values.dtype == np.uint8 and values.ndim == 4)
            for name, values in found.items()
        }

    def _usual(self) -> Names:
        names: Names = {STEPS[name]: (name,) for name in STEPS if name in self.columns}
        seen = [name for name in sorted(self.columns) if name not in STEPS]
        numbers = tuple(name for name in seen if not self.columns[name].is_picture)
        pictures = {PICTURES + n.removesuffix("_image"): (n,) for n in seen if self.columns[n].is_picture}
        return names | pictures | ({"observation.state": numbers} if numbers else {})

    def _place(self, name: str) -> str:
        return name if name in STEPS else f"obs/{name}"

    def _read(self, demo: str, name: str, at: int | None = None) -> Array:
        found = self._data[demo].get(name)
        if found is None:
            raise SpecError(
                f"{self.path}: {demo}/{name} is not there, other demonstrations have it; leave this one out"
            )
        try:
            return np.asarray(found[()] if at is None else found[at])
        except (OSError, IndexError, ValueError) as error:
            raise StorageCorrupt(f"{self.path}: {demo}/{name} cannot be read: {error}; copy the file again") from error


def _number(demo: str) -> tuple[int, str]:
    digits = demo.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, demo)
