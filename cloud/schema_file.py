"""The run's row schema, kept beside its log: so weights are there before the first row, and robots can begin."""

from pathlib import Path

from user_rl.files import write_atomically
from user_rl.rows import Schema, schema_from_bytes

NAME = "schema.msgpack"


def keep_schema(run: Path, schema: Schema) -> None:
    """Writes the schema of the run in the folder `run`, durably."""
    write_atomically(run / NAME, schema.encoded)


def kept_schema(run: Path) -> Schema | None:
    """The schema that was kept, None before the first robot; raises SchemaMismatch for another format."""
    path = run / NAME
    return schema_from_bytes(path.read_bytes()) if path.is_file() else None
