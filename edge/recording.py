"""Recording: episodes that were played outside any lease (an evaluation's), as rows in a log of their own.

They are rows like all others, so whatever reads a run's log reads these. No ring, no spool, no wire.
"""

from pathlib import Path

import numpy as np

from hal.cell import Cell, Observation
from hal.task import Judgement
from user_rl.log import Log
from user_rl.rows import Kind, Schema, make_schema
from user_rl.specs import Array
from user_rl.versions import Version

NAME = "evaluation"  # of the cell and of the run in the stream's name
STREAM = f"{NAME}/{'0' * 32}/{NAME}"


class Recording:
    """The log's only writer. `act` for each step, `end` with the observation after the last one."""

    def __init__(self, path: Path, cell: Cell, version: Version) -> None:
        self._schema: Schema = make_schema(cell.observation, cell.action)
        self._version, self._step, self._episode, self._frame = version, 0, 0, 0
        self._log = Log(path)
        self._log.open_stream(STREAM, self._schema)

    def act(self, seen: Observation, action: Array, sent: Array, worth: Judgement) -> None:
        """One step that the policy took."""
        row = self._row(seen, Kind.STEP)
        row["action"] = row["action.proposed"] = action
        row["action.sent"] = sent
        row["stamp.action"] = max(seen.stamps_s.values())
        row["next.reward"], row["next.done"] = worth.reward, worth.done
        row["next.truncated"], row["next.success"] = worth.truncated, worth.success
        self._append(row)

    def end(self, seen: Observation) -> None:
        """The closing row; the episode is on disk when this returns."""
        self._append(self._row(seen, Kind.LAST))
        self._log.commit()
        self._episode, self._frame = self._episode + 1, 0

    def close(self) -> None:
        """Closes the log."""
        self._log.close()

    def _row(self, seen: Observation, kind: Kind) -> Array:
        row = self._schema.new()
        row["step"], row["episode"], row["frame_index"], row["kind"] = self._step, self._episode, self._frame, kind
        row["run"], row["version"] = NAME.encode(), self._version.number
        row["version_hash"] = np.frombuffer(self._version.digest16, np.uint8)
        for name, value in seen.values.items():
            row[name], row[f"stamp.{name}"] = value, seen.stamps_s[name]
        return row

    def _append(self, row: Array) -> None:
        self._log.append(STREAM, row)
        self._step += 1
        self._frame += 1
