"""A weights file: its hash, its size, and that equal tensors give equal bytes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from policies.export import write_weights

TENSORS = {"b.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1.5], np.float32)}


def test_hash_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    sha256, size = write_weights(tmp_path / "w", TENSORS)
    data = (tmp_path / "w").read_bytes()
    assert (sha256, size) == (hashlib.sha256(data).hexdigest(), len(data))
    read = load(data)
    assert read.keys() == TENSORS.keys()
    assert all(np.array_equal(read[name], TENSORS[name]) for name in TENSORS)


def test_equal_tensors_give_equal_bytes_whatever_their_order_in_dict_and_memory(tmp_path: Path) -> None:
    turned = {name: np.asfortranarray(TENSORS[name]) for name in reversed(TENSORS)}
    assert write_weights(tmp_path / "1", TENSORS) == write_weights(tmp_path / "2", turned)


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"first")
    with pytest.raises(FileExistsError):
        write_weights(tmp_path / "w", TENSORS)
    assert (tmp_path / "w").read_bytes() == b"first"
