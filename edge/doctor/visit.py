"""user-rl-edge doctor: a cell looked at from end to end in under a minute, without the daemon and without a lease.

The cell is opened in a child process: what hangs there costs its deadline, is named, left out, and the rest is looked
at all the same. A robot that was open when the child had to be killed is halted out of band, where it can be.
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.doctor.config import DoctorConfig
from edge.doctor.diagnosis import Result, Row
from edge.doctor.host import fleet_rows, host_rows
from edge.doctor.robot import ROBOT
from hal.isolation import Hung, listen
from hal.make import CellConfig
from hal.robot import OnSilence
from user_rl.config import Tree
from user_rl.errors import HardwareError
from user_rl.files import FileLock

CELL_KEYS = tuple(CellConfig.__dataclass_fields__)
_HALT_S = 10.0
_EXAMINE = "edge.doctor.examination:examine"


def visit(tree: Tree, config: DoctorConfig, *, examine: str = _EXAMINE) -> list[Row]:
    """Every row about the configuration `tree`; raises ConfigError for no cell, StorageBusy while its daemon runs."""
    home = Path(tree["home"]).expanduser() if tree.get("home") else None
    lock = FileLock(home / "lock") if home is not None and home.exists() else None  # no daemon beside the doctor
    try:
        rows = Visit(tree, config, examine).rows()
    finally:
        if lock is not None:
            lock.release()
    bundle = tree.get("bundle")
    return [*rows, *host_rows(home or Path.home()), *(fleet_rows(Path(bundle).expanduser()) if bundle else [])]


class Visit:
    """The child process, started again without the part that hung in it."""

    def __init__(self, tree: Tree, config: DoctorConfig, examine: str) -> None:
        self._config, self._examine = config, examine
        self._cell = {key: tree[key] for key in CELL_KEYS if key in tree}
        self._allow_silence = bool(tree.get("allow_no_silence_stop", False))
        self._rows: list[Row] = []
        self._skip: list[str] = []
        self._done: list[str] = []
        self._about, self._stage = ROBOT, "starting"
        self._spec: Mapping[str, Any] = {}  # on_silence and halt_command of a robot that may be open

    def rows(self) -> list[Row]:
        """What the child says of every part."""
        while not self._whole():
            pass
        return self._rows

    def _whole(self) -> bool:
        """Whether there is nothing more to be said."""
        self._spec = {}
        within_s = self._config.deadline_s + self._config.for_s
        try:
            for said in listen(self._examine, self._order(), within_s=within_s):
                self._take(said)
        except HardwareError as error:
            self._rows.append(self._broken(error))
            self._rows += _halted(self._spec)
            again = self._about not in self._skip
            self._skip.append(self._about)
            return not again
        return True

    def _order(self) -> dict[str, Any]:
        return {
            "cell": self._cell, "move": self._config.move, "for_s": self._config.for_s, "skip": self._skip,
            "done": self._done, "allow_no_silence_stop": self._allow_silence,
        }  # fmt: skip

    def _take(self, said: Mapping[str, Any]) -> None:
        if "stage" in said:
            self._about, self._stage = said["about"], said["stage"]
        elif "row" in said:
            self._rows.append(Row(**said["row"] | {"result": Result(said["row"]["result"])}))
        elif "halt_command" in said:
            self._spec = said
        else:
            self._done += [said["done"]] if "done" in said else []
            self._skip += [said["skip"]] if "skip" in said else []

    def _broken(self, error: HardwareError) -> Row:
        said, _, fix = str(error).rpartition("; ")
        if isinstance(error, Hung):
            said, fix = f"hangs: {error}", "the driver waits without end: see power, cable, address, then its SDK"
        return Row(about=self._about, check=self._stage, result=Result.FAIL, value=said or str(error), fix=fix)


def _halted(spec: Mapping[str, Any]) -> Iterator[Row]:
    """What became of a robot whose process was killed."""
    silence = spec.get("on_silence")
    if silence == OnSilence.NONE:
        fix = "use the emergency stop"
        yield Row(about=ROBOT, check="after it", result=Result.FAIL, value="nothing stops it: it may move", fix=fix)
    if silence == OnSilence.OUT_OF_BAND:
        try:
            subprocess.run(spec["halt_command"], timeout=_HALT_S, check=True, stdout=subprocess.DEVNULL)
            yield Row(about=ROBOT, check="after it", result=Result.OK, value="halted out of band")
        except (OSError, subprocess.SubprocessError) as error:
            fix = "use the emergency stop"
            yield Row(about=ROBOT, check="after it", result=Result.FAIL, value=f"may still move: {error}", fix=fix)
