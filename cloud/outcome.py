"""What a replay says of the run so far: the figures that a person asks for."""

from typing import Any

import numpy as np

from cloud.staleness import FreshState
from cloud.store.replay import Replay
from user_rl.rows import Klass

LAG_ROWS = 50  # the newest online rows, whose versions tell the lag


def outcome(replay: Replay, version: int) -> dict[str, Any]:
    """Success, episodes and steps online, how often a person helped, and how far the robots are behind `version`."""
    recent, intake = replay.recent, replay.intake
    acted = replay.index.version.array[replay.index.of_klass[Klass.ONLINE].array[-LAG_ROWS:]]
    acted = acted[acted > 0]
    return {
        "success_rate": float(np.mean([e.success for e in recent])) if recent else None,
        "success_by_cell": {c: float(np.mean([e.success for e in of])) for c, of in intake.recent_by_cell.items()},
        "episodes": intake.episodes,
        "env_steps": replay.online_rows,
        "demonstrations": replay.demonstration_count,
        "buffer_rows": replay.rows,
        "intervention_rate": intake.intervened_rows / replay.online_rows if replay.online_rows else 0.0,
        "version_lag": max(0.0, float(version - acted.astype(np.float64).mean())) if len(acted) else None,
    }


def fresh_counts(queue: FreshState | None) -> dict[str, Any]:
    """How many episodes of on-policy data wait, and what became of the others; nothing where there is no queue."""
    if queue is None:
        return {}
    counts = {f"fresh_{name}": getattr(queue, name) for name in ("taken", "expired", "refused")}
    return {"fresh_waiting": len(queue.waiting), **counts}
