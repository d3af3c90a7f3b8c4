"""Columns that come late: reward, success, advantage, embedding, annotation, written any time after the rows.

A column is `name@writer-version`, such as `reward@classifier-3`. An id gets a value once; another value is refused, so
a second opinion is a new version. One process writes (`Columns`), any number reads (`ColumnReader`).
"""

from user_rl.columns.holdings import Holdings, Ranges
from user_rl.columns.owner import Columns, Verdict
from user_rl.columns.reader import ColumnReader, Ids
from user_rl.columns.spec import Column, column_from_name

__all__ = ["Column", "ColumnReader", "Columns", "Holdings", "Ids", "Ranges", "Verdict", "column_from_name"]
