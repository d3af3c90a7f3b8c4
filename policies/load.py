"""From a version's folder to the policy that acts.

The weights file is read once, hashed, and parsed from the same bytes: what acts is what was hashed.
"""

import hashlib
from pathlib import Path

import msgspec
import safetensors
from safetensors.numpy import load as parse

from policies.policy import Policy, SingleStep
from policies.registry import loader
from user_rl.errors import StorageCorrupt
from user_rl.specs import Array
from user_rl.versions import Version, read_version


def load(folder: Path, *, seed: int) -> tuple[Version, SingleStep | Policy]:
    """The version in `folder` and its policy; `seed` starts the exploration noise.

    Raises StorageCorrupt when the bytes are not what the manifest says, ConfigError for a policy unknown here.
    """
    try:
        version = read_version(folder)
        data = (folder / "weights.safetensors").read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageCorrupt(f"version in {folder} cannot be read: {error}; fetch it again") from error
    tensors = _tensors(folder, version, data)
    return version, loader(version.policy.kind)(version.policy, tensors, seed=seed)


def _tensors(folder: Path, version: Version, data: bytes) -> dict[str, Array]:
    found = hashlib.sha256(data).hexdigest()
    if found != version.sha256:
        raise StorageCorrupt(
            f"{folder}/weights.safetensors is {len(data)} bytes of sha256 {found[:16]}…, "
            f"allowed {version.size} bytes of {version.sha256[:16]}…; fetch it again"
        )
    try:
        return parse(data)
    except safetensors.SafetensorError as error:
        raise StorageCorrupt(f"{folder}/weights.safetensors cannot be read: {error}; publish it again") from error
