"""Weight versions: what an immutable, numbered, hashed set of weights says of itself.

A version is a folder `NNNNNNNN/` with `manifest.json` (this struct) and `weights.safetensors`. Its number is the
highest ever published plus one; `sha256` is of the safetensors file, and rows carry its first 16 bytes.
"""

from pathlib import Path
from typing import Any

import msgspec

from user_rl.specs import Box


class PolicySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to rebuild the policy that the tensors belong to."""

    kind: str  # a key of policies.registry.KINDS, or an installed package's: "mlp", "cnn"
    action: Box
    settings: dict[str, Any]  # the policy's own config, plain


class Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest of one version."""

    number: int  # from 1; 0 means none
    sha256: str  # 64 hex digits of weights.safetensors
    size: int  # bytes of weights.safetensors
    schema: str  # digest of the row schema that the policy was trained on
    policy: PolicySpec
    updates: int  # gradient steps behind it
    incarnation: str  # the learner's life that published it
    parent: int = 0
    anchor: bool = True

    @property
    def digest16(self) -> bytes:
        """What a row holds as `version_hash`."""
        return bytes.fromhex(self.sha256)[:16]


def version_folder(root: Path, number: int) -> Path:
    """Where version `number` lies under the store `root`."""
    return root / f"{number:08d}"


def read_version(folder: Path) -> Version:
    """The manifest in `folder`; raises msgspec.MsgspecError or OSError."""
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Version)
