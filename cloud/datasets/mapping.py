"""Which of a dataset's columns become which of ours: what its format usually means, or a file that says so.

The file is JSON, our name to its column, or to several that are put behind each other:
{"observation.state": ["robot0_eef_pos", "robot0_gripper_qpos"], "observation.images.front": "agentview_image"}.
Observations that it does not name are left out when it names any; the rest stays as the format means it.
"""

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from user_rl.errors import ConfigError

Names = dict[str, tuple[str, ...]]
SCALARS = ("next.reward", "next.done", "next.truncated", "next.success", "is_intervention")
INTERVENTION = "complementary_info.is_intervention"  # LeRobot's column of it
PICTURES = "observation.images."
OURS = ("observation.state", f"{PICTURES}NAME", "action", *SCALARS)


def read_map(path: Path | None) -> Names:
    """What the file `path` says; empty without one. Raises ConfigError."""
    if path is None:
        return {}
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--map {path}: cannot be read: {error}; give a JSON file of our name: its name") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"--map {path}: is a {type(tree).__name__}, allowed an object of our name: its name")
    return {ours: _theirs(path, ours, theirs) for ours, theirs in tree.items()}


def chosen_names(usual: Mapping[str, tuple[str, ...]], given: Names, columns: Sequence[str]) -> Names:
    """The columns of each of our names; raises ConfigError for a wrong name with the nearest, or without an action."""
    for ours, theirs in given.items():
        if not _is_ours(ours):
            raise ConfigError(f"--map: {ours} is no name of ours, {_near(ours, OURS)}")
        for name in theirs:
            if name not in columns:
                raise ConfigError(f"--map: {ours} = {name}, there is no such column, {_near(name, columns)}")
    named = any(name.startswith("observation.") for name in given)
    kept = {name: theirs for name, theirs in usual.items() if not (named and name.startswith("observation."))}
    names = kept | given
    if "action" not in names or not any(name.startswith("observation.") for name in names):
        raise ConfigError(
            f"it has no action or no observation that can be told, its columns are {', '.join(columns)}; name them in "
            "--map FILE"
        )
    return dict(sorted(names.items()))


def usual_names(columns: Sequence[str]) -> Names:
    """LeRobot's names, which are ours; a picture beside `observation.images.` moves there."""
    plain = [name for name in columns if name in ("action", *SCALARS) or name.startswith("observation.")]
    found: Names = {name: (name,) for name in plain}
    if INTERVENTION in columns:
        found["is_intervention"] = (INTERVENTION,)
    return found


def _is_ours(name: str) -> bool:
    return name in ("action", *SCALARS) or (name.startswith("observation.") and len(name) > len("observation."))


def _theirs(path: Path, ours: str, theirs: object) -> tuple[str, ...]:
    found = theirs if isinstance(theirs, list) else [theirs]
    if not found or not all(isinstance(name, str) for name in found):
        raise ConfigError(f"--map {path}: {ours} = {theirs!r}, allowed the name of a column or a list of names")
    return tuple(found)


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"did you mean {near[0]}?" if near else f"allowed: {', '.join(sorted(known))}"
