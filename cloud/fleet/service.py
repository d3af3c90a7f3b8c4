"""The fleet's calls: who asks, may they, and the answer of the lease rules. gRPC with TLS both ways.

The caller is the client certificate's common name, `kind:name`, and only the certificate under which that name is
enrolled now counts. An edge speaks for its own cell, a run for itself, an admin for every run; runs and admins report
accelerators, admins alone put things into quarantine and take them out. A join file may join, and nothing else.
"""

import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import grpc

from cloud.authority import Authority
from cloud.enrolments import Issued
from cloud.fleet.callers import Callers, CallLimits
from cloud.fleet.lease_history import LeaseHistory
from cloud.fleet.leases import Leases
from cloud.fleet.stop_calls import StopCalls
from user_rl import control_pb2 as pb
from user_rl.clock import Clock
from user_rl.control_pb2_grpc import FleetServicer
from user_rl.errors import LeaseLost, Limited, StorageFull, Unauthorized, UserRlError, WireError
from user_rl.fleet import (
    AcceleratorCard,
    Accelerators,
    Card,
    accelerator_from_proto,
    ask_from_proto,
    card_from_proto,
    doors_from_proto,
    resource_to_proto,
    status_from_proto,
)  # fmt: skip
from user_rl.trust import NAME_PATTERN

Reply = TypeVar("Reply")
ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"
FASTEST_HZ = 1e5  # of any control loop; above it, or not finite, a rate is a mistake

_CODES: dict[type[UserRlError], grpc.StatusCode] = {
    Unauthorized: grpc.StatusCode.PERMISSION_DENIED,
    Limited: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LeaseLost: grpc.StatusCode.FAILED_PRECONDITION,
    WireError: grpc.StatusCode.INVALID_ARGUMENT,
    StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


class FleetService(FleetServicer):
    """One lock around the rules; each call is short."""

    def __init__(
        self, leases: Leases, authority: Authority, *, clock: Clock, wall: Callable[[], float] = time.time,
        limits: CallLimits | None = None,
    ) -> None:  # fmt: skip
        self._leases, self._authority, self._clock, self._wall = leases, authority, clock, wall
        self._lock = threading.Lock()
        self._called_s = clock.now_s()
        self.audit, self.callers = authority.audit, Callers(authority, limits or CallLimits(), clock, wall)
        self._stop_calls = StopCalls(self._answer, leases, self.audit, clock)
        self._history = LeaseHistory(leases, authority)

    def idle_s(self) -> float:
        """Seconds since the last call of anyone enrolled; 0 while a run holds a cell."""
        with self._lock:
            return 0.0 if self._leases.busy() else self._clock.now_s() - self._called_s

    def Register(self, request: pb.RegisterRequest, context: grpc.ServicerContext) -> pb.RegisterReply:
        def act(caller: str) -> pb.RegisterReply:
            card = _checked(card_from_proto(request.card))
            _allow(caller, f"edge:{card.cell}")
            return pb.RegisterReply(sequence=self._leases.register(card), clock_s=self._wall())

        return self._answer(context, act)

    def Heartbeat(self, request: pb.HeartbeatRequest, context: grpc.ServicerContext) -> pb.HeartbeatReply:
        def act(caller: str) -> pb.HeartbeatReply:
            _allow(caller, f"edge:{request.cell}")
            assignment = self._leases.heartbeat(request.cell, request.boot, status_from_proto(request.status))
            return pb.HeartbeatReply(assignment=pb.Assignment(**dataclasses.asdict(assignment)), clock_s=self._wall())

        return self._answer(context, act)

    def OpenRun(self, request: pb.OpenRunRequest, context: grpc.ServicerContext) -> pb.OpenRunReply:
        def act(caller: str) -> pb.OpenRunReply:
            _allow_run(caller, request.run)
            self._leases.open_run(request.run, doors_from_proto(request))
            return pb.OpenRunReply()

        return self._answer(context, act)

    def RequestLease(self, request: pb.RequestLeaseRequest, context: grpc.ServicerContext) -> pb.RequestLeaseReply:
        def act(caller: str) -> pb.RequestLeaseReply:
            _allow_run(caller, request.run)
            reply = self._leases.request(request.run, ask_from_proto(request))
            return pb.RequestLeaseReply(
                granted=_grants(reply.granted), accelerators=_roles(reply.accelerators), position=reply.position,
                reason=reply.reason,
            )  # fmt: skip

        return self._answer(context, act)

    def RenewLease(self, request: pb.RenewLeaseRequest, context: grpc.ServicerContext) -> pb.RenewLeaseReply:
        def act(caller: str) -> pb.RenewLeaseReply:
            _allow_run(caller, request.run)
            held = self._leases.renew(request.run)
            return pb.RenewLeaseReply(
                held=_grants(held.cells), accelerators=_roles(held.accelerators), wanted_back=held.wanted_back
            )

        return self._answer(context, act)

    def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: grpc.ServicerContext) -> pb.ReleaseLeaseReply:
        def act(caller: str) -> pb.ReleaseLeaseReply:
            _allow_run(caller, request.run)
            self._leases.release(request.run, tuple(request.ids))
            return pb.ReleaseLeaseReply()

        return self._answer(context, act)

    def ListResources(self, request: pb.ListResourcesRequest, context: grpc.ServicerContext) -> pb.ListResourcesReply:
        def act(caller: str) -> pb.ListResourcesReply:
            listed = [self.callers.warned(resource) for resource in self._leases.resources()]
            return pb.ListResourcesReply(resources=map(resource_to_proto, listed))

        return self._answer(context, act)

    def ReportAccelerators(
        self, request: pb.ReportAcceleratorsRequest, context: grpc.ServicerContext
    ) -> pb.ReportAcceleratorsReply:
        def act(caller: str) -> pb.ReportAcceleratorsReply:
            _allow_kind(caller, "run", "admin")
            cards = [_checked_accelerator(accelerator_from_proto(card)) for card in request.accelerators]
            return pb.ReportAcceleratorsReply(ttl_s=self._leases.report(cards))

        return self._answer(context, act)

    def QuarantineResource(
        self, request: pb.QuarantineResourceRequest, context: grpc.ServicerContext
    ) -> pb.QuarantineResourceReply:
        def act(caller: str) -> pb.QuarantineResourceReply:
            _allow_kind(caller, "admin")
            why = f": {request.reason}" if request.reason else ""
            self._leases.quarantine(request.id, f"taken out of use by {caller}{why}")
            self.audit.write(caller, "quarantine", request.id, f"done{why}")
            return pb.QuarantineResourceReply()

        return self._answer(context, act)

    def AdmitResource(self, request: pb.AdmitResourceRequest, context: grpc.ServicerContext) -> pb.AdmitResourceReply:
        def act(caller: str) -> pb.AdmitResourceReply:
            _allow_kind(caller, "admin")
            self._leases.admit(request.id)
            self.audit.write(caller, "admit", request.id)
            return pb.AdmitResourceReply()

        return self._answer(context, act)

    def Watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.Order]:
        return self._stop_calls.watch(request, context)

    def Confirm(self, request: pb.ConfirmRequest, context: grpc.ServicerContext) -> pb.ConfirmReply:
        return self._stop_calls.confirm(request, context)

    def StopRobots(self, request: pb.StopRobotsRequest, context: grpc.ServicerContext) -> Iterator[pb.Stopped]:
        return self._stop_calls.stop(request, context)

    def Join(self, request: pb.JoinRequest, context: grpc.ServicerContext) -> pb.JoinReply:
        def act() -> pb.JoinReply:
            identity, cert_pem = self.callers.presented(context)
            return _issued(self._authority.join(identity, cert_pem, request))

        return self._guarded(context, act)

    def Renew(self, request: pb.JoinRequest, context: grpc.ServicerContext) -> pb.JoinReply:
        def act() -> pb.JoinReply:
            identity, cert_pem = self.callers.presented(context)
            self.callers.admit(identity, cert_pem)
            return _issued(self._authority.renew(identity, cert_pem, request))

        return self._guarded(context, act)

    def still_knows(self, context: grpc.ServicerContext) -> bool:
        """Whether the caller of a stream is still who it was when it began: enrolled, neither revoked nor expired."""
        return self.callers.still_knows(context)

    def end_watches(self) -> None:
        """The fleet ends: nobody listens to it any more."""
        self._stop_calls.stops.end()

    def report(self, cards: Sequence[AcceleratorCard]) -> float:
        """The fleet's own machine has these; returns after how many seconds it must be said again at the latest."""
        with self._lock:
            return self._leases.report(cards)

    def _answer(self, context: grpc.ServicerContext, act: Callable[[str], Reply]) -> Reply:
        def locked() -> Reply:
            caller = self.callers.admit(*self.callers.presented(context))
            with self._lock:
                self._called_s = self._clock.now_s()
                self._history.expel_strangers()
                try:
                    return act(caller)
                finally:
                    self._history.note(caller)

        return self._guarded(context, locked)

    def _guarded(self, context: grpc.ServicerContext, act: Callable[[], Reply]) -> Reply:
        try:
            return act()
        except Unauthorized as error:
            self.audit.refused(self.callers.presented(context)[0], "call", str(error))
            context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except UserRlError as error:
            context.abort(_CODES.get(type(error), grpc.StatusCode.UNAVAILABLE), str(error))


def _issued(issued: Issued) -> pb.JoinReply:
    return pb.JoinReply(cert_pem=issued.cert_pem, expires_s=issued.expires_s)


def _allow(caller: str, wanted: str) -> None:
    if caller != wanted:
        raise Unauthorized(f"{caller} may not speak for {wanted}, allowed {caller}; use that name's bundle")


def _allow_run(caller: str, run: str) -> None:
    if not re.fullmatch(NAME_PATTERN, run):
        raise WireError(f"the run {run!r}, allowed {NAME_PATTERN}; choose another name")
    if not caller.startswith("admin:"):
        _allow(caller, f"run:{run}")


def _allow_kind(caller: str, *kinds: str) -> None:
    if caller.partition(":")[0] not in kinds:
        raise Unauthorized(f"{caller} may not do that, allowed {' and '.join(kinds)}; use such a bundle")


def _checked_accelerator(card: AcceleratorCard) -> AcceleratorCard:
    if not re.fullmatch(ID_PATTERN, card.id):
        raise WireError(f"the accelerator {card.id!r} of {card.node}, allowed {ID_PATTERN}; give it another id")
    return card


def _checked(card: Card) -> Card:
    if not re.fullmatch("[0-9a-f]{32}", card.boot):
        raise WireError(f"the boot {card.boot!r} of {card.cell}, allowed 32 hex digits; make a new one")
    if not 0 < card.rate_hz <= FASTEST_HZ:  # also refuses nan
        raise WireError(f"{card.cell} runs at {card.rate_hz} Hz, allowed up to {FASTEST_HZ:.0f}; set its rate_hz")
    return card


def _grants(tokens: dict[str, int]) -> list[pb.Grant]:
    return [pb.Grant(cell=cell, token=token) for cell, token in tokens.items()]


def _roles(held: Accelerators) -> list[pb.AcceleratorGrant]:
    return [pb.AcceleratorGrant(id=id, role=role) for role, ids in held.items() for id in ids]
