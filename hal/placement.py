"""Placement: which robots and accelerators each run gets. Pure: no I/O, no clock, no ray; same input, same plan.

Requests go by priority, then in the order in which they are given (of their first asking). Each is granted whole or
waits; what a waiting one could use is kept from those behind it, so that a large one is never starved. A run that has
begun and says `min_count` is topped up with what there is. Where a request waits, a lower priority that allows it is
asked to give back what would make the request whole, and nothing if that would not be enough.

Left out, beside a general gang scheduler: backfilling, for nobody says how long a run takes; and moving what is placed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, product

import msgspec
from msgspec.structs import replace

from hal.resources import Capabilities, Resource, ResourceKind
from user_rl.ask import AcceleratorsAsk, Ask

ROBOTS, LEARNER, INFERENCE = "robots", "learner", "inference"  # what a resource is granted for


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One resource as the inventory has it: free, held by `resource.owner`, or not to be had.

    The cameras among its capabilities are those that work.
    """

    resource: Resource
    blocked: str = ""  # why nobody can have it now, for a person; a blocked one that is held serves its owner no more
    coming: bool = False  # blocked, but about to be free
    degraded: str = ""  # what does not work, for a person
    role: str = ""  # what it is held for
    node: str = ""  # the machine of an accelerator


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """`count` resources of one kind for one purpose."""

    role: str
    kind: ResourceKind
    count: int
    model: str = ""
    site: str | None = None  # any; "" is the site of what does not say its own
    cameras: int = 0
    control_mode: str = ""
    ids: tuple[str, ...] = ()

    def fits(self, resource: Resource) -> bool:
        """Whether it would do, but for its id."""
        return (
            self.kind is resource.kind
            and self.model in ("", resource.model)
            and self.site in (None, resource.site)
            and self.is_met_by(resource.capabilities)
        )

    def is_met_by(self, can: Capabilities) -> bool:
        """Whether it can do what is needed."""
        return self.cameras <= len(can.cameras) and (not self.control_mode or self.control_mode in can.control_modes)

    def blind(self) -> "Need":
        """The same, with cameras or without."""
        return replace(self, cameras=0)

    def means(self, resource: Resource) -> bool:
        """Whether it would do."""
        return (not self.ids or resource.id in self.ids) and self.fits(resource)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a run asks for; asking counts for `plan` only while it is in `requests`."""

    run: str
    ask: Ask


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What a run gets on top of what it holds, and what it loses for it."""

    ids: Mapping[str, tuple[str, ...]]  # by role
    dropped: tuple[str, ...] = ()  # held but of no use any more, replaced by what is granted


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A request that is not whole: its place from 1, and each need with how many were found for it."""

    position: int
    needs: tuple[tuple[Need, int], ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The answer to every request: granted, waiting, or both when a run goes on with fewer."""

    grants: dict[str, Grant] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # free ids that are a run's, or wait for the rest of its request
    finish: dict[str, str] = field(default_factory=dict)  # held ids that a run of a higher priority waits for


def plan(entries: Sequence[Entry], requests: Sequence[Request], holders: Mapping[str, Ask]) -> Plan:
    """Places every request. `holders`: what the runs that hold something had asked for, as far as it is known."""
    board, made = _Board(entries, holders), Plan()
    for request in sorted(requests, key=lambda r: -r.ask.priority):
        board.place(request, made)
    return made


def needs_of(ask: Ask) -> tuple[Need, ...]:
    """The request as needs: robots, then inference (which may have to be near them), then the learner."""
    robots = ask.robots
    cells = Need(
        role=ROBOTS, kind=ResourceKind.CELL, count=robots.count, model=robots.model, site=robots.site or None,
        cameras=robots.cameras, control_mode=robots.control_mode, ids=tuple(dict.fromkeys(robots.cells)),
    )  # fmt: skip
    return cells, *(n for n in (_need(INFERENCE, ask.inference), _need(LEARNER, ask.learner)) if n.count)


def _need(role: str, ask: AcceleratorsAsk) -> Need:
    return Need(role=role, kind=ResourceKind.ACCELERATOR, count=ask.gpus)


Choice = list[tuple[Need, list[str]]]  # what is missing of each need, with what was found for it


class _Board:
    """What is left to give out while requests are placed one by one."""

    def __init__(self, entries: Sequence[Entry], holders: Mapping[str, Ask]) -> None:
        self._held: dict[str, list[Entry]] = {}
        for entry in entries:
            if entry.resource.owner:
                self._held.setdefault(entry.resource.owner, []).append(entry)
        self._all = _Pool(entries)
        self._free = _Pool(e for e in entries if not e.blocked and not e.resource.owner)
        self._coming = _Pool(e for e in entries if e.coming)
        allowed: dict[int, list[Entry]] = {}
        for run, ask in holders.items():
            if ask.preemptible:
                allowed.setdefault(ask.priority, []).extend(e for e in self._held.get(run, ()) if not e.blocked)
        self._victims = [(priority, _Pool(allowed[priority])) for priority in sorted(allowed)]

    def place(self, request: Request, made: Plan) -> None:
        """Grants, keeps or asks back what `request` needs."""
        run, mine = request.run, self._held.get(request.run, [])
        choices = sorted((self._choose(needs) for needs in self._options(request.ask, mine)), key=_missing)
        choice, back = choices[0], dict[str, str]()
        if _missing(choice):
            asked = ((c, self._ask_back(request, c)) for c in choices)
            choice, back = next(((c, b) for c, b in asked if b is not None), (choice, {}))
            made.waiting[run] = Waiting(
                position=len(made.waiting) + 1, needs=tuple((need, len(found)) for need, found in choice)
            )
        found = [id for _, ids in choice for id in ids]
        self._free.remove(found)
        made.finish.update(back)
        made.kept.update(dict.fromkeys(found, run))
        if not _missing(choice) or self._goes_on(request.ask, mine, choice):
            ids = {need.role: tuple(ids) for need, ids in choice if ids}
            made.grants[run] = Grant(ids=ids, dropped=_dropped(request.ask, mine, choice))

    def _options(self, ask: Ask, mine: list[Entry]) -> list[list[Need]]:
        """What is missing, once for each site where it might be found together, or once when it need not be."""
        cells, *others = needs_of(ask)
        if not (ask.inference.near and ask.inference.gpus):
            return [[_less(need, mine) for need in (cells, *others)]]
        sound = [e for e in mine if _sound(cells, e)]
        sites = sorted({e.resource.site for e in sound}) or self._all.sites(cells)
        options = [
            [_less(replace(n, site=site) if n.role != LEARNER else n, mine) for n in (cells, *others)] for site in sites
        ]
        return options or [[_less(cells, mine)]]

    def _choose(self, needs: Iterable[Need]) -> Choice:
        choice: Choice = []
        for need in needs:
            choice.append((need, self._free.find(need, [id for _, ids in choice for id in ids])))
        return choice

    def _ask_back(self, request: Request, choice: Choice) -> dict[str, str] | None:
        """What others must give back to make the choice whole, none if it is about to be free; None: not possible."""
        waited: list[str] = []
        pools = [self._coming, *(pool for priority, pool in self._victims if priority < request.ask.priority)]
        for need, found in choice:
            if need.count == len(found):
                continue
            lacking = replace(need, count=need.count - len(found))
            more = list(islice(chain.from_iterable(pool.find(lacking, waited) for pool in pools), lacking.count))
            if len(more) < lacking.count:
                return None
            waited += more
        back = {id: request.run for id in waited if id not in self._coming}
        for pool in pools:
            pool.remove(waited)
        return back

    def _goes_on(self, ask: Ask, mine: list[Entry], choice: Choice) -> bool:
        """Whether the run has begun and may go on with what it holds and what was found."""
        cells = needs_of(ask)[0]
        begun = any(e.resource.kind is ResourceKind.CELL for e in mine)
        return begun and sum(_sound(cells, e) for e in mine) + len(choice[0][1]) >= ask.robots.enough


def _missing(choice: Choice) -> int:
    return sum(need.count - len(found) for need, found in choice)


def _sound(need: Need, held: Entry) -> bool:
    return held.role == need.role and not held.blocked and need.means(held.resource)


def _less(need: Need, mine: list[Entry]) -> Need:
    have = sum(_sound(need, e) for e in mine)
    return replace(need, count=max(0, need.count - have)) if have else need


def _dropped(ask: Ask, mine: list[Entry], choice: Choice) -> tuple[str, ...]:
    """What the run holds beyond its request once the choice is granted, of that which serves it no more."""
    dropped: list[str] = []
    counts = {need.role: need for need in needs_of(ask)}
    for need, found in choice:
        own = [e for e in mine if _was_for(counts[need.role], e)]
        stale = [e.resource.id for e in own if not _sound(need, e)]
        dropped += stale[: max(0, len(own) + len(found) - counts[need.role].count)]
    return tuple(dropped)


def _was_for(need: Need, held: Entry) -> bool:
    return held.role == need.role and (need.role != ROBOTS or need.blind().means(held.resource))


@dataclass(frozen=True)
class _Group:
    """Resources that no request can tell apart but by name, on one machine, held by one run or by nobody."""

    like: Resource
    ids: dict[str, None] = field(default_factory=dict)


class _Pool:
    """Resources in groups, by kind, site and model."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._things: dict[str, tuple[Resource, _Group]] = {}
        groups: dict[tuple[int, str, str, str, tuple[str, ...], str, str], _Group] = {}
        for entry in entries:
            it, can = entry.resource, entry.resource.capabilities
            key = (len(can.cameras), it.kind, it.model, it.site, can.control_modes, entry.node, it.owner)
            group = groups.setdefault(key, _Group(it))
            group.ids[it.id] = None
            self._things[it.id] = it, group
        self._places: dict[tuple[ResourceKind, str | None, str], list[_Group]] = {}
        for _, group in sorted(groups.items(), key=lambda item: item[0]):
            for site, model in product((group.like.site, None), {group.like.model, ""}):
                self._places.setdefault((group.like.kind, site, model), []).append(group)

    def __contains__(self, id: str) -> bool:
        return id in self._things

    def find(self, need: Need, but: Sequence[str] = ()) -> list[str]:
        """Up to `need.count` ids: together in one group where one is large enough, those that can do least first."""
        if not need.count:
            return []
        return list(islice((id for id in self._candidates(need) if id not in but), need.count))

    def sites(self, need: Need) -> list[str]:
        """Where there is anything for `need`."""
        return sorted({group.like.site for group in self._fitting(need)})

    def remove(self, ids: Iterable[str]) -> None:
        """They are not there any more; ids that are not there already do not matter."""
        for id in ids:
            if id in self._things:
                del self._things.pop(id)[1].ids[id]

    def _candidates(self, need: Need) -> Iterable[str]:
        if need.ids:
            return (id for id in need.ids if id in self._things and need.fits(self._things[id][0]))
        groups = self._fitting(need)  # those that can do least come first
        groups.sort(key=lambda group: len(group.ids) < need.count)
        return chain.from_iterable(group.ids for group in groups)

    def _fitting(self, need: Need) -> list[_Group]:
        near = self._places.get((need.kind, need.site, need.model), ())
        return [group for group in near if group.ids and need.is_met_by(group.like.capabilities)]
