"""Diagnosis: what each check of a cell found, as rows of a table that says what to fix."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from edge.table import table


class Result(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"  # it works, and a person should know
    FAIL = "FAIL"
    SKIP = "-"  # not checked: the row says why


@dataclass(frozen=True, kw_only=True)
class Row:
    """One check: of which part, what was found, what was allowed, what to do."""

    about: str  # robot, camera front, host, fleet
    check: str
    result: Result
    value: str
    allowed: str = ""
    fix: str = ""


def judged(
    about: str, check: str, *, holds: bool, value: str, allowed: str, fix: str, otherwise: Result = Result.FAIL
) -> Row:
    """A row that is OK without a fix, or `otherwise` with it."""
    result = Result.OK if holds else otherwise
    return Row(about=about, check=check, result=result, value=value, allowed=allowed, fix="" if holds else fix)


def failed(rows: Sequence[Row]) -> bool:
    """Whether the cell should not be used as it is."""
    return any(row.result is Result.FAIL for row in rows)


def as_json(rows: Sequence[Row], took_s: float) -> str:
    """One object, for programs."""
    return json.dumps({"ok": not failed(rows), "took_s": round(took_s, 2), "checks": [asdict(row) for row in rows]})


def as_text(rows: Sequence[Row], took_s: float, *, width: int) -> str:
    """The table, a part's name once, and one line that sums it up."""
    lines, last = [], ""
    for row in rows:
        lines.append(("" if row.about == last else row.about, row.check, row.result, row.value, row.allowed, row.fix))
        last = row.about
    body = table(("PART", "CHECK", "RESULT", "FOUND", "ALLOWED", "TO FIX"), lines, width=width, wrapped=(3, 4, 5))
    return f"{body}\n\n{_sum(rows)}, in {took_s:.0f} s."


def _sum(rows: Sequence[Row]) -> str:
    count = {result: sum(row.result is result for row in rows) for result in Result}
    fit = "not fit" if failed(rows) else "fit"
    return (
        f"This cell is {fit} to run: {count[Result.OK]} ok, {count[Result.WARN]} to know of, "
        f"{count[Result.FAIL]} to fix, {count[Result.SKIP]} not checked"
    )
