"""Random histories of several streams, as the log would hold them, and a slow index to compare with."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cloud.store.index import HEAD, Index, Place
from user_rl.rows import Kind, Klass
from user_rl.specs import Array


@dataclass
class History:
    """Chunks in commit order: (stream, headers)."""

    chunks: list[tuple[str, Array]] = field(default_factory=list)

    def index(self, cuts: tuple[int, ...] = ()) -> Index:
        """An index of it all, taken in so many chunks at a time."""
        index, start = Index(), 0
        for stop in (*cuts, len(self.chunks)):
            piece = self.chunks[start:stop]
            if piece:
                places = [Place(s, start + i + 1, len(head)) for i, (s, head) in enumerate(piece)]
                index.append(places, np.concatenate([head for _, head in piece]))
            start = max(start, stop)
        return index

    def rows(self) -> list[dict[str, Any]]:
        """Every row as a dictionary, in commit order, with its stream."""
        names = ("step", "episode", "kind", "klass", "version", "task", "is_intervention",
                 "next.reward", "next.done", "next.truncated", "next.success")  # fmt: skip
        return [
            {"stream": stream, **{n: row[n].item() for n in names}}
            for stream, head in self.chunks for row in head
        ]  # fmt: skip


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Up to four streams with episodes that end, are cut by a crash, or follow a gap; interleaved in random chunks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    streams = [_stream(rng) for _ in range(draw(st.integers(1, 4)))]
    waiting = {f"cell{i}/00/run": rows for i, rows in enumerate(streams) if len(rows)}
    history = History()
    while waiting:
        name = sorted(waiting)[rng.integers(len(waiting))]
        count = int(rng.integers(1, 6))
        history.chunks.append((name, waiting[name][:count]))
        waiting[name] = waiting[name][count:]
        if not len(waiting[name]):
            del waiting[name]
    return history


def _stream(rng: np.random.Generator) -> Array:
    parts, step = [], 0
    for episode in range(int(rng.integers(0, 6))):
        length, whole = int(rng.integers(1, 8)), bool(rng.random() < 0.8)
        rows = np.zeros(length + whole, HEAD)
        rows["step"] = step + np.arange(len(rows))
        rows["episode"], rows["frame_index"] = episode, np.arange(len(rows))
        rows["klass"] = Klass.DEMONSTRATION if rng.random() < 0.3 else Klass.ONLINE
        rows["version"], rows["task"] = rng.integers(0, 9, len(rows)), [b"peg", b"plug"][int(rng.integers(2))]
        rows["is_intervention"], rows["next.reward"] = rng.random(len(rows)) < 0.3, rng.random(len(rows))
        if whole:
            rows["kind"][-1] = Kind.LAST
            rows["next.done"][-2] = rows["next.success"][-2] = rng.random() < 0.6
            rows["next.truncated"][-2] = not rows["next.done"][-2] and rng.random() < 0.8  # else a person ended it
        parts.append(rows)
        step += len(rows) + int(rng.random() < 0.2) * 3
    return np.concatenate(parts) if parts else np.zeros(0, HEAD)
