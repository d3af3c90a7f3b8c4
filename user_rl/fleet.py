"""The fleet's client: register, heartbeat, lease, renew, release and list, typed, with deadlines.

TLS both ways; the server must prove the bundle's `server_name` whatever the address, so a tunnel changes nothing. Every
call raises Unreachable (no answer: try later), Unauthorized (this name may not), LeaseLost (a newer boot has taken this
cell's place: stop) or WireError (the request makes no sense). Thread-safe; make it after a fork, never before.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import grpc

from user_rl import control_pb2 as pb
from user_rl.control_pb2_grpc import FleetStub
from user_rl.errors import LeaseLost, Unauthorized, Unreachable, UserRlError, WireError
from user_rl.trust import Bundle

Request = TypeVar("Request")
Reply = TypeVar("Reply")
LeaseState = Literal["free", "held", "releasing"]

FAULT = "fault"  # the state of a cell that must not be leased
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # finds a connection that died without a word
    ("grpc.keepalive_timeout_ms", 5_000),
)
_ERRORS: dict[grpc.StatusCode, type[UserRlError]] = {
    grpc.StatusCode.PERMISSION_DENIED: Unauthorized,
    grpc.StatusCode.UNAUTHENTICATED: Unauthorized,
    grpc.StatusCode.FAILED_PRECONDITION: LeaseLost,
    grpc.StatusCode.INVALID_ARGUMENT: WireError,
}


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


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a cell shall do. The edge acts only while all of this holds:

    `wanted`; `token` is above its own `released` and no older than any it has heard of; and `autonomy_s` has not passed
    since it *sent* the last answered heartbeat. When not wanted it halts, stores `released = token` and says so with
    the next heartbeat. Run and addresses stay the last ones, so that the spool's rows find their way.
    """

    run: str  # empty: never assigned
    token: int  # 0: never assigned
    command_ttl_s: float
    autonomy_s: float
    experience_address: str
    weights_address: str
    wanted: bool


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


@dataclass(frozen=True, kw_only=True)
class LeaseReply:
    """The whole request granted as {cell: token}, or nothing, a position in the queue from 1 and why."""

    granted: dict[str, int]
    position: int = 0
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One registered cell as the fleet sees it."""

    card: Card
    sequence: int
    lease: LeaseState
    run: str  # the newest holder
    token: int  # the newest token
    alive: bool
    silent_s: float  # since its last sign of life, or since the fleet's start
    status: Status


class FleetClient:
    """One enrolled name's calls to the fleet; `deadline_s` bounds each."""

    def __init__(self, bundle: Bundle, *, deadline_s: float = 5.0) -> None:
        self.address, self._deadline_s = bundle.fleet_address, deadline_s
        credentials = grpc.ssl_channel_credentials(
            bundle.ca_pem.encode(), bundle.key_pem.encode(), bundle.cert_pem.encode()
        )
        options = (*OPTIONS, ("grpc.ssl_target_name_override", bundle.server_name))
        self._channel = grpc.secure_channel(self.address, credentials, options=options)
        self._stub = FleetStub(self._channel)

    def register(self, card: Card) -> Registered:
        """Says what this cell is; needed after every start of the daemon and after any Unreachable; may be repeated."""
        reply = self._call(self._stub.Register, pb.RegisterRequest(card=card_to_proto(card)))
        return Registered(reply.sequence, reply.clock_s)

    def heartbeat(self, cell: str, boot: str, status: Status) -> Beat:
        """Says that this cell lives, and learns what it shall do."""
        request = pb.HeartbeatRequest(cell=cell, boot=boot, status=pb.Status(**dataclasses.asdict(status)))
        reply = self._call(self._stub.Heartbeat, request)
        return Beat(Assignment(**_fields(Assignment, reply.assignment)), reply.clock_s)

    def open_run(self, run: str, experience_address: str, weights_address: str) -> None:
        """Says where the run's gateway listens; again after a move."""
        request = pb.OpenRunRequest(run=run, experience_address=experience_address, weights_address=weights_address)
        self._call(self._stub.OpenRun, request)

    def request_lease(self, run: str, *, count: int, model: str = "", cells: Sequence[str] = ()) -> LeaseReply:
        """Asks that the run hold `count` cells in all; ask again (every second or so) while it waits."""
        request = pb.RequestLeaseRequest(run=run, count=count, model=model, cells=cells)
        reply = self._call(self._stub.RequestLease, request)
        return LeaseReply(granted=_tokens(reply.granted), position=reply.position, reason=reply.reason)

    def renew(self, run: str) -> dict[str, int]:
        """Keeps the run's leases alive; {cell: token} of those that it still holds."""
        return _tokens(self._call(self._stub.RenewLease, pb.RenewLeaseRequest(run=run)).held)

    def release(self, run: str, cells: Sequence[str] = ()) -> None:
        """Gives `cells` back (none named: all); each is free once its edge confirms."""
        self._call(self._stub.ReleaseLease, pb.ReleaseLeaseRequest(run=run, cells=cells))

    def list(self) -> list[Resource]:
        """Every registered cell, by name."""
        return [_resource(r) for r in self._call(self._stub.ListResources, pb.ListResourcesRequest()).resources]

    def close(self) -> None:
        """Ends the connection; safe to call twice."""
        self._channel.close()

    def __enter__(self) -> "FleetClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request) -> Reply:
        try:
            return method(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error

    def _translated(self, error: grpc.RpcError) -> UserRlError:
        kind = _ERRORS.get(error.code(), Unreachable)
        text = error.details() or error.code().name
        if kind is Unreachable:
            text = f"no answer from the fleet at {self.address}: {text}; see that user-rl fleet runs there, then again"
        return kind(text)


def card_to_proto(card: Card) -> pb.Card:
    """`card` as a message."""
    return pb.Card(**dataclasses.asdict(card))


def card_from_proto(message: pb.Card) -> Card:
    """The card in `message`."""
    return Card(**_fields(Card, message) | {"cameras": tuple(message.cameras)})


def status_from_proto(message: pb.Status) -> Status:
    """The status in `message`."""
    free = message.disk_free_bytes if message.HasField("disk_free_bytes") else None
    return Status(**_fields(Status, message) | {"disk_free_bytes": free})


def _resource(message: pb.Resource) -> Resource:
    nested = {"card": card_from_proto(message.card), "status": status_from_proto(message.status)}
    return Resource(**_fields(Resource, message) | nested)


def _tokens(grants: Sequence[pb.Grant]) -> dict[str, int]:
    return {grant.cell: grant.token for grant in grants}


def _fields(cls: type, message: object) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in dataclasses.fields(cls)}
