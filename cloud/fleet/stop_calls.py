"""The emergency stop's three calls: an edge watches and confirms, an admin or a run stops robots.

A stop is told to the edges first, then kept: the cells are in a person's quarantine, in one transaction, until a person
admits them. An edge that was away is told when it listens again, unless the quarantine was ended meanwhile or it has
confirmed that very stop: then its own latch holds, until a person clears it at the robot.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import grpc

from cloud.audit import Audit
from cloud.fleet.leases import Leases
from cloud.fleet.stops import ALIVE, KEEP_ALIVE_S, Call, Stops, Stream
from user_rl import control_pb2 as pb
from user_rl.clock import Clock
from user_rl.emergency import Order, Stopped
from user_rl.errors import Unauthorized

log = logging.getLogger(__name__)

LONGEST_REASON = 200  # characters
Reply = TypeVar("Reply")


class Answer(Protocol):
    """What the service offers: `act` with the caller's name, checked anew at each call, under the rules' lock."""

    def __call__(self, context: grpc.ServicerContext, act: Callable[[str], Reply]) -> Reply: ...


class StopCalls:
    """Thread-safe; the calls come from the service's threads."""

    def __init__(self, answer: Answer, leases: Leases, audit: Audit, clock: Clock) -> None:
        self._answer, self._leases, self._audit, self._clock = answer, leases, audit, clock
        self.stops = Stops(clock)

    def watch(self, request: pb.WatchRequest, context: grpc.ServicerContext) -> Iterator[pb.Order]:
        """Orders until the caller goes, its name is revoked, or its boot is superseded."""
        stream = self._answer(context, lambda caller: self._open(caller, request))
        try:
            if not context.add_callback(stream.end):
                return
            yield _order(ALIVE)
            while (order := stream.next(KEEP_ALIVE_S)) is not None:
                self._answer(context, lambda caller: self._check(caller, stream))
                yield _order(order)
        finally:
            self.stops.close(stream)

    def confirm(self, request: pb.ConfirmRequest, context: grpc.ServicerContext) -> pb.ConfirmReply:
        """An edge has carried out an order, or could not."""
        at_s = self._clock.now_s()

        def act(caller: str) -> pb.ConfirmReply:
            _allow_edge(caller, request.cell)
            over = self.stops.confirm(
                request.cell, request.id, done=request.done, detail=request.detail, at_s=at_s
            )  # fmt: skip
            self._audit.write(caller, "stopped", request.cell, request.detail[:LONGEST_REASON])
            if over:
                self._leases.stop_confirmed(request.cell)
            return pb.ConfirmReply()

        return self._answer(context, act)

    def stop(self, request: pb.StopRobotsRequest, context: grpc.ServicerContext) -> Iterator[pb.Stopped]:
        """What came of each cell, as soon as it is known."""
        began_s = self._clock.now_s()
        call = self._answer(context, lambda caller: self._stop(caller, request, began_s))
        for stopped in self.stops.answers(call, request.wait_s):
            yield _stopped(stopped)

    def _open(self, caller: str, request: pb.WatchRequest) -> Stream:
        _allow_edge(caller, request.cell)
        self._leases.check_boot(request.cell, request.boot)
        return self.stops.open(request.cell, request.boot, self._leases.unconfirmed_stop(request.cell))

    def _check(self, caller: str, stream: Stream) -> None:
        _allow_edge(caller, stream.cell)
        self._leases.check_boot(stream.cell, stream.boot)

    def _stop(self, caller: str, request: pb.StopRobotsRequest, began_s: float) -> Call:
        cells = self._allowed(caller, tuple(dict.fromkeys(request.cells)))
        known = [cell for cell in cells if self._leases.has_cell(cell)]
        why = f": {request.reason[:LONGEST_REASON]}" if request.reason else ""
        text = f"emergency stop by {caller}{why}"
        call = self.stops.stop(known, text, began_s)
        call.missing |= dict.fromkeys(sorted({*cells} - {*known}), "no cell has this name")
        log.warning("%s; told %s", text, ", ".join(known) or "nobody")
        self._leases.stop(known, text)
        self._audit.write(caller, "stop", ", ".join(known), f"told{why}")
        return call

    def _allowed(self, caller: str, cells: tuple[str, ...]) -> tuple[str, ...]:
        kind, _, name = caller.partition(":")
        if kind == "admin":
            return cells or self._leases.cells_of(None)
        held = self._leases.cells_of(name) if kind == "run" else ()
        if kind != "run" or not {*cells} <= {*held}:
            raise Unauthorized(
                f"{caller} may not stop {', '.join(cells) or 'every robot'}, allowed an admin, and a run what it holds "
                f"({', '.join(held) or 'nothing'}); use user-rl estop"
            )
        return cells or held


def _allow_edge(caller: str, cell: str) -> None:
    if caller != f"edge:{cell}":
        raise Unauthorized(f"{caller} may not speak for edge:{cell}, allowed {caller}; use that name's bundle")


def _order(order: Order) -> pb.Order:
    return pb.Order(id=order.id, kind=order.kind, reason=order.reason)


def _stopped(stopped: Stopped) -> pb.Stopped:
    return pb.Stopped(
        cell=stopped.cell, confirmed=stopped.confirmed, after_s=stopped.after_s, detail=stopped.detail
    )  # fmt: skip
