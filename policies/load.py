"""From a version's folder to the policy that acts.

The weights file is read once, hashed, and parsed from the same bytes: what acts is what was hashed.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import safetensors
from safetensors.numpy import load as parse

from policies.mlp_numpy import NumpyMlp
from policies.policy import Policy
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.specs import Array
from user_rl.versions import PolicySpec, Version, read_version

MakePolicy = Callable[[PolicySpec, Mapping[str, Array], int], Policy]


def _mlp(spec: PolicySpec, tensors: Mapping[str, Array], seed: int) -> Policy:
    return NumpyMlp(spec, tensors, seed=seed)


def _cnn(spec: PolicySpec, tensors: Mapping[str, Array], seed: int) -> Policy:
    try:
        from policies.cnn import TorchCnn
    except ModuleNotFoundError as error:
        raise ConfigError(f"a cnn policy needs torch on the edge ({error}); pip install '.[edge-torch]'") from error
    return TorchCnn(spec, tensors, seed=seed)


POLICIES: dict[str, MakePolicy] = {"mlp": _mlp, "cnn": _cnn}


def load(folder: Path, *, seed: int) -> tuple[Version, Policy]:
    """The version in `folder` and its policy; `seed` starts the exploration noise.

    Raises StorageCorrupt when the bytes are not what the manifest says, ConfigError for a policy unknown here.
    """
    try:
        version = read_version(folder)
        data = (folder / "weights.safetensors").read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise StorageCorrupt(f"version in {folder} cannot be read: {error}; fetch it again") from error
    tensors = _tensors(folder, version, data)
    if version.policy.kind not in POLICIES:
        allowed = ", ".join(POLICIES)
        raise ConfigError(f"policy {version.policy.kind!r} of {folder}, allowed {allowed}; update this machine")
    return version, POLICIES[version.policy.kind](version.policy, tensors, seed)


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
