"""cloud.schema_file: what a gateway keeps, a learner finds."""

from pathlib import Path

import pytest

from cloud.schema_file import NAME, keep_schema, kept_schema
from user_rl.errors import SchemaMismatch
from user_rl.rows import make_schema
from user_rl.specs import box

STATE = box("observation.state", [("x", "m", -1, 1)])


def test_a_kept_schema_is_found_again(tmp_path: Path) -> None:
    schema = make_schema({"observation.state": STATE}, STATE)
    assert kept_schema(tmp_path) is None
    keep_schema(tmp_path, schema)
    assert kept_schema(tmp_path) == schema


def test_a_schema_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"something else")
    with pytest.raises(SchemaMismatch, match="cannot be read"):
        kept_schema(tmp_path)
