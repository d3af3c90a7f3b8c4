"""A version's folder becomes a policy, or a clear refusal."""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from torch import Generator

from policies.config import PolicyConfig, actor_spec
from policies.export import write_weights
from policies.kits import check_policy, example_observation
from policies.load import load
from policies.networks import Actor
from policies.policy import as_single
from user_rl.errors import ConfigError, StorageCorrupt
from user_rl.rows import Schema
from user_rl.versions import PolicySpec, Version


def publish(folder: Path, schema: Schema, *, kind: str = "mlp", named: str | None = None) -> Version:
    spec = actor_spec(PolicyConfig(kind=kind, hidden=(8,)), schema)
    actor = Actor(spec, len(schema.action.names), Generator().manual_seed(0))
    tensors = {name: value.detach().numpy() for name, value in actor.state_dict().items()}
    sha256, size = write_weights(folder / "weights.safetensors", tensors)
    policy = PolicySpec(named or kind, schema.action, spec.settings)
    version = Version(
        number=3, sha256=sha256, size=size, schema=schema.digest, policy=policy, updates=9, incarnation="life"
    )
    (folder / "manifest.json").write_bytes(msgspec.json.encode(version))
    return version


def test_an_mlp_version_loads_and_acts(tmp_path: Path, schema: Schema) -> None:
    written = publish(tmp_path, schema)
    version, policy = load(tmp_path, seed=0)
    assert version == written
    assert policy.action == schema.action
    check_policy(lambda seed: load(tmp_path, seed=seed)[1], schema.observation)


def test_a_cnn_version_loads_and_acts(tmp_path: Path, vision: Schema) -> None:
    publish(tmp_path, vision, kind="cnn")
    _, policy = load(tmp_path, seed=0)
    seen = example_observation(vision.observation, np.random.default_rng(0))
    policy.action.check(as_single(policy).act(seen, explore=True))


def test_every_flipped_byte_is_noticed(tmp_path: Path, schema: Schema) -> None:
    publish(tmp_path, schema)
    path = tmp_path / "weights.safetensors"
    whole = path.read_bytes()
    for at in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(
            StorageCorrupt, match=r"weights.safetensors is .* bytes of sha256 .*…, allowed .*; fetch it"
        ):
            load(tmp_path, seed=0)


def test_a_file_cut_short_is_noticed(tmp_path: Path, schema: Schema) -> None:
    version = publish(tmp_path, schema)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StorageCorrupt, match=rf"is 100 bytes of .*, allowed {version.size} bytes of"):
        load(tmp_path, seed=0)


def test_bytes_that_were_hashed_but_are_no_safetensors_are_noticed(tmp_path: Path, schema: Schema) -> None:
    import hashlib

    version = publish(tmp_path, schema)
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    manifest = msgspec.structs.replace(version, sha256=hashlib.sha256(b"nonsense").hexdigest(), size=8)
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    with pytest.raises(StorageCorrupt, match=r"weights.safetensors cannot be read: .*; publish it again"):
        load(tmp_path, seed=0)


@pytest.mark.parametrize("missing", ["manifest.json", "weights.safetensors"])
def test_a_folder_with_a_file_missing_is_named(tmp_path: Path, schema: Schema, missing: str) -> None:
    publish(tmp_path, schema)
    (tmp_path / missing).unlink()
    with pytest.raises(StorageCorrupt, match=rf"version in .* cannot be read: .*{missing}.*; fetch it again"):
        load(tmp_path, seed=0)


def test_a_broken_manifest_is_named(tmp_path: Path, schema: Schema) -> None:
    publish(tmp_path, schema)
    (tmp_path / "manifest.json").write_bytes(b'{"number": 1}')
    with pytest.raises(StorageCorrupt, match=r"version in .* cannot be read: .*sha256.*; fetch it again"):
        load(tmp_path, seed=0)


def test_a_kind_that_this_machine_does_not_know_is_named(tmp_path: Path, schema: Schema) -> None:
    publish(tmp_path, schema, named="rubber")
    with pytest.raises(ConfigError, match=r"policy 'rubber' is unknown here, allowed cnn, .*mlp; install what"):
        load(tmp_path, seed=0)


@pytest.mark.slow
def test_a_light_edge_loads_and_acts_without_torch(tmp_path: Path, schema: Schema) -> None:
    publish(tmp_path, schema)
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import pathlib, numpy as np\n"
        "from policies.load import load\n"
        "_, policy = load(pathlib.Path(sys.argv[1]), seed=0)\n"
        "policy.action.check(policy.act({'observation.state': np.zeros(5, np.float32)}, explore=True))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60)


@pytest.mark.slow
def test_a_cnn_without_torch_says_what_to_install(tmp_path: Path, vision: Schema) -> None:
    publish(tmp_path, vision, kind="cnn")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import pathlib\n"
        "from policies.load import load\n"
        "from user_rl.errors import ConfigError\n"
        "try:\n    load(pathlib.Path(sys.argv[1]), seed=0)\n"
        "except ConfigError as error:\n    sys.stdout.write(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=60, capture_output=True)
    assert b"a cnn policy needs torch, which is missing" in done.stdout
    assert b"pip install '.[edge-torch]'" in done.stdout
