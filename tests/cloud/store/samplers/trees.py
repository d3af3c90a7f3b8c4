"""One configuration of every sampler, and of some nested ones."""

from cloud.store.samplers import as_configured
from user_rl.config import Tree

PRIORITISED: Tree = {"name": "prioritised"}
TREES: dict[str, Tree] = {
    "uniform": {"name": "uniform"},
    "shown": {"name": "uniform", "of": "demonstrations"},
    "interventions": {"name": "uniform", "of": "interventions"},
    "all-shown": {"name": "uniform", "of": "shown"},
    "recent-rows": {"name": "recent", "rows": 12},
    "recent-episodes": {"name": "recent", "episodes": 2},
    "recent-both": {"name": "recent", "rows": 12, "episodes": 2},
    "recent-shown": {"name": "recent", "episodes": 2, "of": "demonstrations"},
    "demonstrations": {"name": "demonstrations"},
    "demonstrations-alone": {"name": "demonstrations", "interventions": False, "successful": False},
    "succeeded": {"name": "outcome"},
    "failed": {"name": "outcome", "success": False},
    "fresh": {"name": "fresh", "max_versions": 3},
    "on-policy": {"name": "on_policy", "max_versions": 100},
    "on-policy-expiring": {"name": "on_policy", "max_versions": 20},
    "on-policy-task": {"name": "task", "task": "peg", "sampler": {"name": "on_policy", "max_versions": 100}},
    "on-policy-mixed": {
        "name": "mixture",
        "parts": [
            {"share": 0.5, "sampler": {"name": "demonstrations"}},
            {"share": 0.5, "sampler": {"name": "on_policy", "max_versions": 100}},
        ],
    },
    "robot": {"name": "robot", "cell": "cell1"},
    "task": {"name": "task", "task": "peg"},
    "ready": {"name": "ready", "column": "reward@classifier-3"},
    "ready-recent": {"name": "ready", "column": "reward@classifier-3", "sampler": {"name": "recent", "rows": 30}},
    "robot-task-interventions": {
        "name": "robot", "cell": "cell1",
        "sampler": {"name": "task", "task": "peg", "sampler": {"name": "uniform", "of": "interventions"}},
    },
    "fresh-robot": {"name": "fresh", "max_versions": 3, "sampler": {"name": "robot", "cell": "cell1"}},
    "robot-shown": {"name": "robot", "cell": "cell1", "sampler": {"name": "uniform", "of": "shown"}},
    "as-configured": as_configured(0.5),
    "prioritised": PRIORITISED,
    "prioritised-demonstrations": {"name": "prioritised", "of": "demonstrations"},
    "prioritised-task": {"name": "task", "task": "peg", "sampler": PRIORITISED},
    "mixture": {
        "name": "mixture",
        "parts": [
            {"share": 0.25, "sampler": {"name": "demonstrations"}},
            {"share": 0.45, "sampler": PRIORITISED},
            {"share": 0.3, "sampler": {"name": "outcome"}},
        ],
    },
}  # fmt: skip
ONCE = {name for name in TREES if name.startswith("on-policy")}  # hand out each row once: no draw has a distribution
AGAIN = {name: tree for name, tree in TREES.items() if name not in ONCE}
