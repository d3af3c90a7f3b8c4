"""The emergency stop's calls to the fleet: an edge watches for orders and confirms them, a person stops robots."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import grpc

from user_rl import control_pb2 as pb
from user_rl.fleet import FleetClient

GRACE_S = 5.0  # beyond `wait_s`: for the way there and back


@dataclass(frozen=True)
class Order:
    """What cannot wait for a heartbeat. `id` 0 and no kind: the fleet lives."""

    id: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Stopped:
    """What came of stopping one robot; `after_s` since the fleet was asked."""

    cell: str
    confirmed: bool
    after_s: float
    detail: str


class EmergencyClient(FleetClient):
    """One enrolled name's calls. `watch` blocks its thread; `end_watch` may be called from another."""

    _watching: grpc.Call | None = None

    def watch(self, cell: str, boot: str) -> Iterator[Order]:
        """Orders as they come, and signs of life between them, until `end_watch` is called. Raises as every call."""
        call = self._watching = self._stub.Watch(pb.WatchRequest(cell=cell, boot=boot))
        try:
            for order in call:
                yield Order(order.id, order.kind, order.reason)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                raise self._translated(error) from error
        finally:
            call.cancel()

    def end_watch(self) -> None:
        """The stream ends; safe to call at any time."""
        if self._watching is not None:
            self._watching.cancel()

    def confirm(self, cell: str, boot: str, id: int, *, done: bool, detail: str) -> None:
        """An order was carried out, or was not."""
        self._call(self._stub.Confirm, pb.ConfirmRequest(cell=cell, boot=boot, id=id, done=done, detail=detail))

    def stop_robots(self, cells: Sequence[str], reason: str, *, wait_s: float) -> Iterator[Stopped]:
        """Stops these, or all that the caller may stop when none is named; each as soon as it is known, at the latest
        after `wait_s`."""
        request = pb.StopRobotsRequest(cells=cells, reason=reason, wait_s=wait_s)
        call = self._stub.StopRobots(request, timeout=wait_s + GRACE_S)
        try:
            for stopped in call:
                yield Stopped(stopped.cell, stopped.confirmed, stopped.after_s, stopped.detail)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        finally:
            with suppress(grpc.RpcError):
                call.cancel()
