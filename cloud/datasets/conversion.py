"""Raw episodes of another format as rows of ours, each value checked, each transition exact.

We keep the observation after the last action. Where a format has it (robomimic's next_obs, HIL-SERL's
next_observations) it is used. Where it has not (LeRobot, robomimic without next_obs), an episode that ended in its
last step repeats the last observation, from which nothing bootstraps; one that was merely cut gives up its last
action, whose outcome nobody saw, and its last frame becomes the observation after the last but one.

Without any reward, end or success in the dataset, the end of a demonstration counts as success with reward 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cloud.datasets.mapping import Names
from cloud.datasets.recorded import Raw
from user_rl.errors import SpecError
from user_rl.rows import Field, Kind, Klass, Schema, Source
from user_rl.specs import Array, Box

FLAGS = ("next.done", "next.truncated", "next.success")


@dataclass(frozen=True, kw_only=True)
class Header:
    """What every row of an import says beside the dataset's own values."""

    klass: Klass
    run: str
    task: str | None  # None: as the dataset says
    rate_hz: float


class RowMaker:
    """Makes the rows of one stream, episode after episode."""

    def __init__(self, schema: Schema, names: Names, header: Header) -> None:
        self.schema, self._names, self._header = schema, names, header
        self._step = self._episode = 0
        self._now_s = 0.0
        self.given_up = 0  # last actions whose outcome nobody saw

    def rows(self, raw: Raw) -> Array:
        """The rows of one episode: T steps and the LAST row; raises SpecError naming the episode and the frame."""
        observed = {name: self._observed(raw, name) for name in self.schema.observation}
        action = _checked(self.schema.action, vectors(raw, raw.columns, self._names["action"]), raw.where)
        outcome = self._outcome(raw, len(action))
        after = self._after(raw)
        count = len(action)
        if after is None and not (outcome["next.done"][-1] or outcome["next.success"][-1]):
            count -= 1
            self.given_up += 1
            if not count:
                raise SpecError(f"{raw.where}: is one frame without an end, allowed two or more; leave it out")
            outcome = {name: values[:count] for name, values in outcome.items()}
            outcome["next.truncated"][-1] = not outcome["next.done"][-1]
        rows = self.schema.new(count + 1)
        for name, values in observed.items():
            rows[name][:count] = values[:count]
            rows[name][count] = after[name] if after is not None else values[min(count, len(values) - 1)]
        for name, values in outcome.items():
            rows[name][:count] = values
        self._fill(rows, raw, action[:count])
        return rows

    def _observed(self, raw: Raw, name: str) -> Array:
        spec = self.schema.observation[name]
        if isinstance(spec, Box):
            return _checked(spec, vectors(raw, raw.columns, self._names[name]), raw.where)
        return _picture(raw.columns[self._names[name][0]], spec.shape, f"{raw.where}: {name}")

    def _after(self, raw: Raw) -> dict[str, Array] | None:
        if not raw.after:
            return None
        after = Raw(where=f"{raw.where}, after its last action", columns={}, stamps_s=raw.stamps_s[-1:])
        after.columns = {name: values[None] for name, values in raw.after.items()}
        return {name: self._observed(after, name)[0] for name in self.schema.observation}

    def _outcome(self, raw: Raw, count: int) -> dict[str, Array]:
        """Reward and flags [T]; what the dataset does not have is told from what it has."""
        told = {name: self._scalar(raw, name) for name in ("next.reward", *FLAGS) if name in self._names}
        is_shown = self._header.klass == Klass.DEMONSTRATION
        at_end = np.arange(count) == count - 1
        done = told.get("next.done", told.get("next.success", at_end & (is_shown and not told))) != 0
        reward = told.get("next.reward")
        if "next.success" in told:
            success = told["next.success"] != 0
        else:
            success = done & (reward > 0 if reward is not None else is_shown)
        truncated = told.get("next.truncated", at_end & ~done) != 0
        reward = success.astype(np.float32) if reward is None else reward
        return {"next.reward": reward, "next.done": done, "next.success": success, "next.truncated": truncated}

    def _scalar(self, raw: Raw, name: str) -> Array:
        values = vectors(raw, raw.columns, self._names[name])
        if values.shape[1] != 1:
            raise SpecError(f"{raw.where}: {name} has {values.shape[1]} values a step, allowed 1; name another column")
        _check_finite(values, name, raw.where)
        return values[:, 0].copy()

    def _fill(self, rows: Array, raw: Raw, action: Array) -> None:
        header, count = self._header, len(action)
        rows["step"] = self._step + np.arange(count + 1)
        rows["episode"], rows["frame_index"] = self._episode, np.arange(count + 1)
        rows["kind"][count], rows["klass"] = Kind.LAST, header.klass
        rows["run"], rows["task"] = header.run.encode(), self._task(raw)
        by_person = np.full(count, header.klass == Klass.DEMONSTRATION)
        if "is_intervention" in self._names:
            rows["is_intervention"][:count] = self._scalar(raw, "is_intervention")[:count] != 0
            by_person |= rows["is_intervention"][:count] != 0
        rows["source"][:count] = np.where(by_person, Source.TELEOP, Source.POLICY)
        for name in ("action", "action.sent"):
            rows[name][:count] = action
        rows["action.proposed"][:count][~by_person] = action[~by_person]
        self._stamp(rows, raw)
        self._step += count + 1
        self._episode += 1

    def _stamp(self, rows: Array, raw: Raw) -> None:
        count, period_s = len(rows) - 1, 1.0 / self._header.rate_hz
        since_s = raw.stamps_s[:count] - raw.stamps_s[0]
        if not np.isfinite(since_s).all() or (np.diff(since_s) < 0).any():
            raise SpecError(
                f"{raw.where}: its timestamps are not in order, allowed seconds that rise; mend the dataset"
            )
        stamps_s = self._now_s + np.append(since_s, since_s[-1] + period_s)
        for name in ("stamp.action", *(f"stamp.{name}" for name in self.schema.observation)):
            rows[name] = stamps_s
        rows["stamp.action"][count] = 0  # as a robot's closing row has it
        self._now_s = float(stamps_s[-1]) + period_s

    def _task(self, raw: Raw) -> bytes:
        task = (raw.task if self._header.task is None else self._header.task).encode()
        room = np.dtype(_field(self.schema, "task").dtype).itemsize
        if len(task) > room:
            raise SpecError(f"{raw.where}: task {task.decode()!r} has {len(task)} bytes, allowed {room}; give --task")
        return task


def vectors(raw: Raw, columns: Mapping[str, Array], theirs: tuple[str, ...]) -> Array:
    """The columns `theirs` behind each other, [T, D] float32; raises SpecError where one is of another length."""
    parts = []
    for name in theirs:
        values = columns[name]
        if len(values) != len(raw.stamps_s) or values.dtype.kind not in "fiub":
            raise SpecError(
                f"{raw.where}: {name} is {values.dtype}{list(values.shape)}, allowed numbers for its "
                f"{len(raw.stamps_s)} frames; mend the dataset"
            )
        parts.append(values.reshape(len(values), -1).astype(np.float32))
    return np.concatenate(parts, axis=1)


def _checked(spec: Box, values: Array, where: str) -> Array:
    """`values` [T, D], of the spec's width and inside its bounds."""
    if values.shape[1:] != spec.shape:
        raise SpecError(
            f"{where}: {spec.name} has {values.shape[1]} values, allowed {spec.shape[0]}; choose its columns in --map"
        )
    _check_finite(values, spec.name, where)
    low, high = np.array(spec.low, np.float32), np.array(spec.high, np.float32)
    bad = np.argwhere((values < low) | (values > high))
    if len(bad):
        t, i = bad[0]
        raise SpecError(
            f"{where}, frame {t}: {spec.name}.{spec.names[i]} = {values[t, i]:.4g}, allowed [{spec.low[i]:.4g}, "
            f"{spec.high[i]:.4g}]; scale it, or import without these specs"
        )
    return values


def _check_finite(values: Array, name: str, where: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        t, i = bad[0]
        raise SpecError(f"{where}, frame {t}: {name}[{i}] = {values[t, i]}, allowed finite numbers; mend the dataset")


def _picture(values: Array, shape: tuple[int, ...], what: str) -> Array:
    if values.dtype != np.uint8 or values.shape[1:] != shape:
        raise SpecError(
            f"{what} is {values.dtype}{list(values.shape[1:])}, allowed uint8{list(shape)}; choose another column in "
            "--map, or scale the pictures"
        )
    return values


def _field(schema: Schema, name: str) -> Field:
    return next(field for field in schema.fields if field.name == name)
