"""Rows without their camera pictures: zeros in no bytes, and NaN for the pictures' stamps, which says so for ever."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from user_rl.log.codec import codecs_of
from user_rl.log.coded import packed
from user_rl.log.writer import Log
from user_rl.rows import Schema
from user_rl.specs import Array


@dataclass(frozen=True)
class Unfilmed:
    """Such rows. `stored`: their coded form; None: it would be longer than the records (of tiny pictures)."""

    records: Array
    stored: bytes | None

    def append_to(self, log: Log, stream: str) -> None:
        """As `Log.append`."""
        if self.stored is None:
            log.append(stream, self.records)
        else:
            log.append_coded(stream, self.stored, len(self.records))


def unfilmed(records: Array, schema: Schema, codecs: Mapping[str, str]) -> Unfilmed:
    """The records without what their cameras saw; `codecs` are those that the log has for other fields."""
    blank = records.copy()
    for name in schema.pictures:
        blank[name], blank[f"stamp.{name}"] = 0, np.nan
    chosen = codecs_of(schema, {**codecs_of(schema, codecs), **dict.fromkeys(schema.pictures, "blank")})
    return Unfilmed(blank, packed(blank, chosen))


def is_unfilmed(rows: Array, schema: Schema) -> Array:
    """Whether any camera's picture is missing in each of `rows` [n], which need their plain fields only; bool [n]."""
    missing: Array = np.zeros(len(rows), np.bool_)
    for name in schema.pictures:
        missing |= np.isnan(rows[f"stamp.{name}"])
    return missing
