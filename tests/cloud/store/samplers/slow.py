"""What a sampler may draw and what a sample is, row by row: slow, and written from the words, not from the code."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from user_rl.config import Tree
from user_rl.rows import Kind, Klass

Row = dict[str, Any]


@dataclass
class Slow:
    """A history as it is seen at one moment."""

    rows: list[Row]
    end: int
    capacity: int | None = None
    online_from: int = 0
    version: int = 0
    ready: frozenset[int] = frozenset()

    def after(self, i: int) -> int | None:
        """The row that followed row i in its episode, if both are here."""
        row = self.rows[i]
        for j in range(i + 1, self.end):
            other = self.rows[j]
            if other["stream"] == row["stream"]:
                follows = other["episode"] == row["episode"] and other["step"] == row["step"] + 1
                return j if follows and row["kind"] == Kind.STEP else None
        return None

    def weights(self, tree: Tree) -> dict[int, float]:
        """The probability of every row that may be drawn."""
        return self._weights(tree, [i for i in range(self.end) if self.after(i) is not None])

    def _weights(self, tree: Tree, good: list[int]) -> dict[int, float]:
        name = tree["name"]
        if name == "mixture":
            return self._mixed(tree, good)
        if name in ("uniform", "prioritised", "demonstrations", "recent"):
            mine = set(getattr(self, f"_{name}")(tree))
            rows = [i for i in good if i in mine]
            return {i: 1 / len(rows) for i in rows}
        inner = tree.get("sampler", {"name": "uniform"})
        return self._weights(inner, [i for i in good if getattr(self, f"_{name}")(tree, i)])

    def _mixed(self, tree: Tree, good: list[int]) -> dict[int, float]:
        parts = [(part["share"], self._weights(part["sampler"], good)) for part in tree["parts"]]
        parts = [(share, weights) for share, weights in parts if weights]
        whole = sum(share for share, _ in parts)
        total: dict[int, float] = {}
        for share, weights in parts:
            for i, p in weights.items():
                total[i] = total.get(i, 0.0) + p * (share / whole if whole else 1 / len(parts))
        return total

    def _pool(self, of: str) -> list[int]:
        here = range(self.end)
        online = [i for i in here if self.rows[i]["klass"] == Klass.ONLINE]
        shown = [i for i in here if self.rows[i]["klass"] == Klass.DEMONSTRATION]
        hand = [i for i in online if self.rows[i]["is_intervention"] and i >= self.online_from]
        kept = online if self.capacity is None else online[max(0, len(online) - self.capacity) :]
        kept = [i for i in kept if i >= self.online_from]
        return {"online": kept, "demonstrations": shown, "interventions": hand, "shown": sorted(shown + hand)}[of]

    def _uniform(self, tree: Tree) -> list[int]:
        return self._pool(tree.get("of", "online"))

    _prioritised = _uniform

    def _demonstrations(self, tree: Tree) -> list[int]:
        shown = [i for i in self._pool("demonstrations") if not tree.get("successful", True) or self._ended(i) is True]
        return shown + (self._pool("interventions") if tree.get("interventions", True) else [])

    def _recent(self, tree: Tree) -> list[int]:
        of = tree.get("of", "online")
        rows = self._pool(of)
        if tree.get("rows"):
            rows = rows[max(0, len(rows) - tree["rows"]) :]
        if tree.get("episodes"):
            klass = Klass.ONLINE if of == "online" else Klass.DEMONSTRATION
            mine = [self._episode(i) for i in range(self.end) if self.rows[i]["klass"] == klass]
            begun = list(dict.fromkeys(mine))  # in the order of their first rows
            rows = [i for i in rows if self._episode(i) in begun[-tree["episodes"] :]]
        return rows

    def _outcome(self, tree: Tree, i: int) -> bool:
        return self._ended(i) is tree.get("success", True)

    def _fresh(self, tree: Tree, i: int) -> bool:
        version = self.rows[i]["version"]
        return bool(version >= 1 and self.version - version <= tree["max_versions"])

    def _robot(self, tree: Tree, i: int) -> bool:
        return bool(self.rows[i]["stream"].startswith(tree["cell"] + "/"))

    def _task(self, tree: Tree, i: int) -> bool:
        return bool(self.rows[i]["task"] == tree["task"].encode())

    def _ready(self, tree: Tree, i: int) -> bool:
        return i in self.ready

    def _episode(self, i: int) -> tuple[str, int]:
        return self.rows[i]["stream"], self.rows[i]["episode"]

    def _ended(self, i: int) -> bool | None:
        """Whether row i's episode succeeded; None while it has not ended."""
        mine = self._episodes[self._episode(i)]
        if not any(row["kind"] == Kind.LAST for row in mine):
            return None
        return any(row["next.success"] and row["kind"] == Kind.STEP for row in mine)

    @cached_property
    def _episodes(self) -> dict[tuple[str, int], list[Row]]:
        found: dict[tuple[str, int], list[Row]] = {}
        for i, row in enumerate(self.rows[: self.end]):
            found.setdefault(self._episode(i), []).append(row)
        return found

    def walk(self, i: int, length: int, *, cut: bool) -> tuple[list[int], int]:
        """Steps from row i on, and the row after them."""
        steps = [i]
        while len(steps) < length:
            row, j = self.rows[steps[-1]], self.after(steps[-1])
            if row["next.done"] or j is None or self.after(j) is None:
                break
            if cut and self.rows[j]["is_intervention"] != self.rows[i]["is_intervention"]:
                break
            steps.append(j)
        after = self.after(steps[-1])
        assert after is not None
        return steps, after
