"""The fleet's client: register, heartbeat, lease, renew, release, report and list, typed, with deadlines.

TLS both ways; the server must prove the bundle's `server_name` whatever the address, so a tunnel changes nothing. Every
call raises Unreachable (no answer: try later), Unauthorized (this name may not), LeaseLost (a newer boot has taken this
cell's place: stop) or WireError (the request makes no sense). Thread-safe; make it after a fork, never before. Of a
fleet with several addresses the next one is taken when one does not answer.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from user_rl import control_pb2 as pb
from user_rl.ask import AcceleratorsAsk, Ask, RobotsAsk
from user_rl.fleet_connection import FleetConnection

LeaseState = Literal["free", "held", "releasing"]
Kind = Literal["cell", "accelerator"]
State = Literal["free", "leased", "degraded", "quarantined", "lost"]
Health = Literal["ok", "degraded", "broken"]  # words of hal.resources.Condition
Role = Literal["learner", "inference"]

FAULT = "fault"  # the state of a cell that must not be leased
ROBOT, TELEOP = "robot", "teleop"  # names of parts; the others are cameras


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a cell is; said at registration."""

    cell: str
    boot: str  # 32 hex digits, new at each start of the daemon
    model: str
    rate_hz: float
    schema_digest: str
    action_dim: int
    cameras: tuple[str, ...] = ()
    on_silence: str
    site: str = ""  # network neighbourhood; empty: not said
    dof: int = 0  # elements of a command; 0: an edge that does not speak of its parts, every heartbeat confirms it
    control_modes: tuple[str, ...] = ()
    teleop: str = ""  # its name; empty: none


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one part of a cell is, as its edge has measured it."""

    name: str  # robot, teleop, or a camera's name
    health: Health = "ok"
    reason: str = ""  # for a person, when not ok


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a cell is; said with each heartbeat. `token` and `released` are durable on the edge before they are said."""

    state: str
    reason: str = ""
    episode: int = 0
    version: int = 0
    rows: int = 0
    spool_bytes: int = 0
    token: int = 0  # the newest ever heard of
    released: int = 0  # never again acts under this token or an older one
    disk_free_bytes: int | None = None  # on the disk that holds the spool; None: not said
    parts: tuple[Part, ...] = ()  # every one of them, or none: not known yet


@dataclass(frozen=True, kw_only=True)
class InferencePlace:
    """A server that answers observations with action chunks."""

    name: str  # cloud, or a server's enrolled name
    address: str
    site: str = ""  # network neighbourhood; empty: not said
    curve_public: str = ""  # of the server; empty: the gateway's


@dataclass(frozen=True, kw_only=True)
class Doors:
    """Where one gateway listens; an empty address: nowhere."""

    experience: str = ""
    weights: str = ""
    live: str = ""


@dataclass(frozen=True, kw_only=True)
class RunDoors:
    """Where a run listens: its gateway, those of single cells that belong to another shard, who infers."""

    doors: Doors = Doors()
    cells: dict[str, Doors] = field(default_factory=dict)
    inference: tuple[InferencePlace, ...] = ()

    def of(self, cell: str) -> Doors:
        """The doors of one cell."""
        return self.cells.get(cell, self.doors)


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a cell shall do. The edge acts only while all of this holds:

    `wanted`; `token` is above its own `released` and no older than any it has heard of; and `autonomy_s` has not passed
    since it *sent* the last answered heartbeat. When not wanted it halts, stores `released = token` and says so with
    the next heartbeat. Run and addresses stay the last ones, so that the spool's rows find their way. Told to
    `finish_episode` while wanted, it acts on to the episode's end, then halts and releases in the same way: a higher
    priority waits for the cell. A later answer may take that back.
    """

    run: str  # empty: never assigned
    token: int  # 0: never assigned
    command_ttl_s: float
    autonomy_s: float
    experience_address: str
    weights_address: str
    wanted: bool
    finish_episode: bool = False
    live_address: str = ""
    inference: tuple[InferencePlace, ...] = ()


@dataclass(frozen=True)
class Registered:
    """`sequence` orders boots; `clock_s` is the fleet's wall clock."""

    sequence: int
    clock_s: float


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat."""

    assignment: Assignment
    clock_s: float


Accelerators = dict[str, tuple[str, ...]]  # ids by role; a role without any is not named


@dataclass(frozen=True, kw_only=True)
class LeaseReply:
    """What the run holds of what it asked for: {cell: token}, and accelerators.

    Position 0: that is everything, and all of it can be used. Otherwise the run stands there in the queue, and `reason`
    says what is missing and why: a run that has not begun holds nothing then; one that has keeps what it holds, also a
    cell that is lost or in quarantine, until another takes its place.
    """

    granted: dict[str, int]
    accelerators: Accelerators = field(default_factory=dict)
    position: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a run still holds after renewing.

    `wanted_back` are ids that a higher priority waits for. Its cells are told to finish by the fleet and leave `cells`
    when they have; accelerators are given back by the run, at its own boundary.
    """

    cells: dict[str, int]
    accelerators: Accelerators = field(default_factory=dict)
    wanted_back: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AcceleratorCard:
    """What one device, or one slice of it, is and how it is; said by whoever sees its node, again and again."""

    id: str  # unique in the fleet, the same after a restart: a UUID, or gpu:NODE:INDEX
    node: str  # its machine's host name
    site: str = ""
    model: str
    address: str = ""  # how its machine reaches it: an index
    memory_bytes: int = 0
    multiprocessors: int = 0  # not said
    utilisation: float = 0.0  # 0 to 1, when it was reported
    mig_profile: str = ""  # empty: a whole device
    parent: str = ""  # id of the device that a slice is part of
    slices: tuple[str, ...] = ()  # ids of its own; they are leased then, not the whole
    health: Health = "ok"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One cell or accelerator as the fleet's inventory has it."""

    id: str  # a cell's name, or an accelerator's id
    kind: Kind
    model: str
    site: str
    state: State  # the worst that holds; who has it leased says `run`, also while it is degraded or quarantined
    since_s: float  # how long it has been in this state
    reason: str  # of the state, for a person
    lease: LeaseState
    run: str  # the newest holder
    role: str  # what an accelerator is leased for
    token: int  # the newest token of a cell
    alive: bool
    silent_s: float  # since its last sign of life, or since the fleet's start
    sequence: int = 0  # of a cell's boot
    card: Card | None = None  # of a cell
    status: Status = Status(state="")  # of a cell
    accelerator: AcceleratorCard | None = None


class FleetClient(FleetConnection):
    """One enrolled name's calls to the fleet; `deadline_s` bounds each."""

    def join(self, request: pb.JoinRequest) -> pb.JoinReply:
        """A certificate for new keys, of a join file's holder; see user_rl.joining. The same keys may ask again."""
        return self._call(self._stub.Join, request)

    def renew_certificate(self, request: pb.JoinRequest) -> pb.JoinReply:
        """A new certificate for a new TLS key of the same name."""
        return self._call(self._stub.Renew, request)

    def register(self, card: Card) -> Registered:
        """Says what this cell is; needed after every start of the daemon and after any Unreachable; may be repeated."""
        reply = self._call(self._stub.Register, pb.RegisterRequest(card=card_to_proto(card)))
        return Registered(reply.sequence, reply.clock_s)

    def heartbeat(self, cell: str, boot: str, status: Status) -> Beat:
        """Says that this cell lives, and learns what it shall do."""
        request = pb.HeartbeatRequest(cell=cell, boot=boot, status=status_to_proto(status))
        reply = self._call(self._stub.Heartbeat, request)
        places = {"inference": _places(reply.assignment.inference)}
        return Beat(Assignment(**_fields(Assignment, reply.assignment) | places), reply.clock_s)

    def open_run(self, run: str, doors: RunDoors) -> None:
        """Says where the run listens; again after a move."""
        self._call(self._stub.OpenRun, pb.OpenRunRequest(run=run, **dataclasses.asdict(doors)))

    def request_lease(self, run: str, ask: Ask) -> LeaseReply:
        """Asks that the run hold all of `ask`; ask again (every second or so) while it waits or something is lost."""
        reply = self._call(self._stub.RequestLease, pb.RequestLeaseRequest(run=run, **dataclasses.asdict(ask)))
        return LeaseReply(
            granted=_tokens(reply.granted), accelerators=_by_role(reply.accelerators), position=reply.position,
            reason=reply.reason,
        )  # fmt: skip

    def renew(self, run: str) -> Held:
        """Keeps the run's leases alive; what it still holds."""
        reply = self._call(self._stub.RenewLease, pb.RenewLeaseRequest(run=run))
        return Held(
            cells=_tokens(reply.held), accelerators=_by_role(reply.accelerators), wanted_back=tuple(reply.wanted_back)
        )

    def release(self, run: str, ids: Sequence[str] = ()) -> None:
        """Gives cells and accelerators back (none named: all); a cell is free once its edge confirms."""
        self._call(self._stub.ReleaseLease, pb.ReleaseLeaseRequest(run=run, ids=ids))

    def list(self) -> list[Resource]:
        """Every cell, then every accelerator, by id."""
        return [
            resource_from_proto(r) for r in self._call(self._stub.ListResources, pb.ListResourcesRequest()).resources
        ]

    def report_accelerators(self, cards: Sequence[AcceleratorCard]) -> float:
        """Says which accelerators there are; returns after how many seconds it must be said again at the latest."""
        messages = [pb.Accelerator(**dataclasses.asdict(card)) for card in cards]
        return self._call(self._stub.ReportAccelerators, pb.ReportAcceleratorsRequest(accelerators=messages)).ttl_s

    def quarantine(self, resource: str, reason: str) -> None:
        """A person takes a resource out of use: a lease on it ends at once, and only a person brings it back."""
        self._call(self._stub.QuarantineResource, pb.QuarantineResourceRequest(id=resource, reason=reason))

    def admit(self, resource: str) -> None:
        """A person ends a quarantine; a check that still fails brings it back."""
        self._call(self._stub.AdmitResource, pb.AdmitResourceRequest(id=resource))


def card_to_proto(card: Card) -> pb.Card:
    """`card` as a message."""
    return pb.Card(**dataclasses.asdict(card))


def card_from_proto(message: pb.Card) -> Card:
    """The card in `message`."""
    tuples = {"cameras": tuple(message.cameras), "control_modes": tuple(message.control_modes)}
    return Card(**_fields(Card, message) | tuples)


def status_to_proto(status: Status) -> pb.Status:
    """`status` as a message."""
    return pb.Status(**dataclasses.asdict(status))


def status_from_proto(message: pb.Status) -> Status:
    """The status in `message`; a health that nobody knows counts as broken."""
    free = message.disk_free_bytes if message.HasField("disk_free_bytes") else None
    parts = tuple(Part(name=p.name, health=_health(p.health), reason=p.reason) for p in message.parts)
    return Status(**_fields(Status, message) | {"disk_free_bytes": free, "parts": parts})


def ask_from_proto(message: pb.RequestLeaseRequest) -> Ask:
    """The request in `message`; raises WireError when it makes no sense."""
    robots = RobotsAsk(**_fields(RobotsAsk, message.robots) | {"cells": tuple(message.robots.cells)})
    accelerators = {
        role: AcceleratorsAsk(**_fields(AcceleratorsAsk, getattr(message, role))) for role in get_args(Role)
    }
    return Ask(robots=robots, priority=message.priority, preemptible=message.preemptible, **accelerators)


def accelerator_from_proto(message: pb.Accelerator) -> AcceleratorCard:
    """The accelerator's card in `message`."""
    changed = {"health": _health(message.health), "slices": tuple(message.slices)}
    return AcceleratorCard(**_fields(AcceleratorCard, message) | changed)


def resource_to_proto(resource: Resource) -> pb.Resource:
    """`resource` as a message."""
    return pb.Resource(**dataclasses.asdict(resource))


def resource_from_proto(message: pb.Resource) -> Resource:
    """The resource in `message`."""
    nested = {
        "card": card_from_proto(message.card) if message.HasField("card") else None,
        "status": status_from_proto(message.status),
        "accelerator": accelerator_from_proto(message.accelerator) if message.HasField("accelerator") else None,
    }
    return Resource(**_fields(Resource, message) | nested)


def doors_from_proto(message: pb.OpenRunRequest) -> RunDoors:
    """Where a run listens, as `message` says."""
    cells = {cell: Doors(**_fields(Doors, doors)) for cell, doors in message.cells.items()}
    return RunDoors(
        doors=Doors(**_fields(Doors, message.doors)), cells=cells, inference=_places(message.inference)
    )  # fmt: skip


def _places(messages: Sequence[pb.InferencePlace]) -> tuple[InferencePlace, ...]:
    return tuple(InferencePlace(**_fields(InferencePlace, message)) for message in messages)


def _health(word: str) -> Health:
    return next((health for health in get_args(Health) if health == word), "broken")


def _by_role(grants: Sequence[pb.AcceleratorGrant]) -> Accelerators:
    ids: dict[str, list[str]] = {}
    for grant in grants:
        ids.setdefault(grant.role, []).append(grant.id)
    return {role: tuple(found) for role, found in ids.items()}


def _tokens(grants: Sequence[pb.Grant]) -> dict[str, int]:
    return {grant.cell: grant.token for grant in grants}


def _fields(cls: type, message: object) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in dataclasses.fields(cls)}
