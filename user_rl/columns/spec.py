"""What a column is: its name, writer and version, and the shape of one value."""

import re
from typing import Any, Literal

import msgspec
import numpy as np

from user_rl.errors import SpecError
from user_rl.specs import Array

NAME = re.compile(r"[a-z][a-z0-9_.]{0,39}@[A-Za-z0-9][A-Za-z0-9_.]{0,39}-[1-9][0-9]{0,8}")
TEXT = "text"  # the dtype of annotations: utf-8, no shape
DTYPES = ("<f4", "<f8", "<i4", "<i8", "u1", TEXT)
MAX_TEXT_BYTES = 64 * 1024
MAX_VALUE_BYTES = 256 * 1024
NARROW_BYTES = 64  # a value up to this size is kept in memory by whoever reads it

Per = Literal["row", "episode"]


class Column(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One column. `per` says what its ids are: steps of a stream, or the numbers of its episodes."""

    name: str
    writer: str
    version: int
    dtype: str = "<f4"
    shape: tuple[int, ...] = ()
    unit: str = ""
    per: Per = "row"
    created_by: str = ""  # who made it: a person or a program, in words

    @property
    def identity(self) -> str:
        """`name@writer-version`, also its folder's name."""
        return f"{self.name}@{self.writer}-{self.version}"

    @property
    def item_bytes(self) -> int:
        """Size of one value; 0 for text, whose values differ."""
        return 0 if self.dtype == TEXT else np.dtype((self.dtype, self.shape)).itemsize

    @property
    def is_narrow(self) -> bool:
        """Whether readers keep the values in memory."""
        return 0 < self.item_bytes <= NARROW_BYTES

    def same_values(self, other: "Column") -> bool:
        """Whether both hold values of one kind; who made them does not matter."""
        return all(getattr(self, f) == getattr(other, f) for f in ("dtype", "shape", "unit", "per"))

    def empty(self, count: int) -> Array:
        """`count` zeros, or empty texts, as `[n, *shape]`."""
        if self.dtype == TEXT:
            return np.full(count, "", object)
        return np.zeros((count, *self.shape), self.dtype)

    def checked(self, values: Any, count: int) -> Array:  # noqa: ANN401  # whatever numpy takes
        """`values` as `[n, *shape]` of the column's dtype; raises SpecError when they are not."""
        if self.dtype == TEXT:
            return self._texts(values, count)
        given = np.asarray(values)
        if given.dtype.kind not in "biuf" or given.shape != (count, *self.shape):
            raise SpecError(
                f"{self.identity}: {given.dtype} values of shape {list(given.shape)} for {count} ids, "
                f"allowed numbers of {[count, *self.shape]}; give one value for each id"
            )
        with np.errstate(invalid="ignore", over="ignore"):
            found = np.asarray(given, self.dtype)
        if found.dtype.kind != "f" and not np.array_equal(found, given):
            raise SpecError(
                f"{self.identity}: values that are no {self.dtype}, allowed whole ones in range; round them"
            )
        return found

    def _texts(self, values: Any, count: int) -> Array:  # noqa: ANN401
        found = np.empty(count, object)
        if len(values) != count or not all(isinstance(value, str) for value in values):
            raise SpecError(f"{self.identity}: {len(values)} values for {count} ids, allowed one text for each")
        found[:] = list(values)
        return found

    def is_valid(self, values: Array) -> Array:
        """[n] bool: which values may be kept: finite numbers, texts of a bounded size."""
        if self.dtype == TEXT:
            return np.array([_text_fits(text) for text in values], bool)
        if values.dtype.kind != "f":
            return np.ones(len(values), bool)
        return np.asarray(np.isfinite(values).reshape(len(values), -1).all(axis=1))


def check_column(column: Column) -> Column:
    """The column itself; raises SpecError for one that cannot be kept."""
    if not NAME.fullmatch(column.identity):
        raise SpecError(
            f"column {column.identity!r}: allowed name@writer-version such as reward@classifier-3 "
            "(letters, digits, _ and ., up to 40 each); choose another name"
        )
    if column.dtype not in DTYPES or (column.dtype == TEXT and column.shape):
        raise SpecError(
            f"column {column.identity}: dtype {column.dtype} {list(column.shape)}, allowed {', '.join(DTYPES)} "
            "(text without a shape); convert the values"
        )
    if min(column.shape, default=1) < 1 or len(column.shape) > 4 or column.item_bytes > MAX_VALUE_BYTES:
        raise SpecError(
            f"column {column.identity}: shape {list(column.shape)}, allowed up to 4 dimensions of 1 or more and "
            f"{MAX_VALUE_BYTES} bytes a value; use a smaller one"
        )
    return column


def column_from_name(identity: str, **fields: Any) -> Column:  # noqa: ANN401
    """The column that `name@writer-version` names, with the other fields as given; raises SpecError."""
    name, _, rest = identity.partition("@")
    writer, _, version = rest.rpartition("-")
    if not NAME.fullmatch(identity):
        raise SpecError(f"column {identity!r}: allowed name@writer-version, such as reward@classifier-3; name it so")
    return check_column(Column(name=name, writer=writer, version=int(version), **fields))


def _text_fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False
