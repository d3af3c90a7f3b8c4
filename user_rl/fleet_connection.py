"""The connection under the fleet's client: TLS, addresses that take each other's place, errors in our words."""

import threading
from typing import Self, TypeVar

import grpc

from user_rl.control_pb2_grpc import FleetStub
from user_rl.errors import LeaseLost, Unauthorized, Unreachable, UserRlError, WireError
from user_rl.trust import Bundle

Request = TypeVar("Request")
Reply = TypeVar("Reply")
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


class FleetConnection:
    """Calls of one enrolled name, `deadline_s` for each; see user_rl.fleet."""

    def __init__(self, bundle: Bundle, *, deadline_s: float = 5.0) -> None:
        self._deadline_s, self._mutex = deadline_s, threading.Lock()
        self._bundle, self._addresses = bundle, [bundle.fleet_address, *bundle.more_addresses]
        self._open()

    def use(self, bundle: Bundle) -> None:
        """Goes on with other keys of the same name; calls that are under way end as Unreachable."""
        with self._mutex:
            self._bundle = bundle
            self._channel.close()
            self._open()

    def close(self) -> None:
        """Ends the connection; safe to call twice."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: "grpc.UnaryUnaryMultiCallable[Request, Reply]", request: Request) -> Reply:
        try:
            return method(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            raise self._translated(error) from error
        except ValueError as error:  # what gRPC says of a channel that `use` or the next address has closed
            raise Unreachable(f"the connection to the fleet at {self.address} was made anew; call again") from error

    def _open(self) -> None:
        bundle, self.address = self._bundle, self._addresses[0]
        credentials = grpc.ssl_channel_credentials(
            bundle.ca_pem.encode(), bundle.key_pem.encode(), bundle.cert_pem.encode()
        )
        options = (*OPTIONS, ("grpc.ssl_target_name_override", bundle.server_name))
        self._channel = grpc.secure_channel(self.address, credentials, options=options)
        self._stub = FleetStub(self._channel)

    def _turn_to_next(self) -> None:
        """The next call goes to the fleet's next address."""
        with self._mutex:
            if len(self._addresses) > 1:
                self._addresses = [*self._addresses[1:], self._addresses[0]]
                self._channel.close()
                self._open()

    def _translated(self, error: grpc.RpcError) -> UserRlError:
        kind = _ERRORS.get(error.code(), Unreachable)
        text = error.details() or error.code().name
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:  # it has answered
            return Unreachable(f"the fleet at {self.address} has no room: {text}")
        if kind is Unreachable:
            tried = self.address
            self._turn_to_next()
            text = f"no answer from the fleet at {tried}: {text}; see that user-rl fleet runs there, then again"
        return kind(text)
