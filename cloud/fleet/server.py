"""The fleet as a process: one per home folder, on one address, until stopped or idle for long enough.

HOME/fleet holds `lock`, `fleet.sqlite`, `address.json` (where it listens, for `ensure_fleet`) and `fleet.log`;
HOME/authority holds the keys.
"""

import itertools
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import msgspec

from cloud.authority import Authority
from cloud.fleet.callers import CallLimits
from cloud.fleet.leases import FleetConfig, Leases
from cloud.fleet.machine import report_own
from cloud.fleet.service import FleetService
from cloud.fleet.stops import WAITERS, WATCHES
from cloud.fleet.store import Store
from user_rl.clock import Clock, SystemClock
from user_rl.control_pb2_grpc import add_FleetServicer_to_server
from user_rl.errors import ConfigError
from user_rl.files import FileLock, write_atomically

log = logging.getLogger(__name__)

THREADS = 8  # for calls that are answered at once
STOP_GRACE_S = 1.0
LOCK_WAIT_S = 3.0  # for a predecessor that is ending
LOOK_EVERY_S = 0.5
SEEN, SEEN_EVERY_LOOKS = "seen.json", 40  # when each name was last seen
OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a second fleet would listen on the same port
    ("grpc.max_receive_message_length", 2**16),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # user_rl.fleet pings every 10 s
    ("grpc.max_concurrent_streams", 64),
)


class Address(msgspec.Struct, frozen=True):
    """What `address.json` says: host:port to connect to on this machine."""

    address: str
    pid: int


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """One fleet process."""

    home: Path
    listen: str = "127.0.0.1:0"  # port 0: the last one again if it is free, else any
    site: str = ""  # where this machine is, for its accelerators
    idle_exit_s: float | None = None  # ends by itself after so long without a lease and without a call
    leases: FleetConfig = field(default_factory=FleetConfig)
    limits: CallLimits = field(default_factory=CallLimits)


class FleetServer:
    """A running fleet; raises StorageBusy when the home has one, ConfigError when the address is taken."""

    def __init__(self, config: ServeConfig, *, clock: Clock) -> None:
        folder = self._folder = config.home / "fleet"
        self._lock = FileLock(folder / "lock", wait_s=LOCK_WAIT_S, clock=clock)
        self._server: grpc.Server | None = None
        self._store: Store | None = None
        with ExitStack() as undo:
            undo.callback(self.close)
            authority = Authority(config.home / "authority")
            self._store = Store(folder / "fleet.sqlite")
            self.service = FleetService(
                Leases(self._store, clock, config.leases), authority, clock=clock, limits=config.limits
            )
            self._server, self.address = _listen(self.service, authority, config)
            said = Address(_reachable(self.address), os.getpid())
            write_atomically(address_path(config.home), msgspec.json.encode(said))
            undo.pop_all()

    def keep_seen(self) -> None:
        """Writes down when each name was last seen."""
        self.service.callers.keep(self._folder / SEEN)

    def close(self) -> None:
        """Answers what has been asked, then ends; safe to call twice."""
        if self._server:
            self.service.end_watches()
            self._server.stop(STOP_GRACE_S).wait()
            self.keep_seen()
        if self._store:
            self._store.close()
        self._lock.release()


def serve(config: ServeConfig, stop: threading.Event, *, clock: Clock | None = None) -> None:
    """Runs a fleet until `stop` is set or it has been idle for `idle_exit_s`."""
    server = FleetServer(config, clock=clock or SystemClock())
    log.info("the fleet of %s listens on %s", config.home, server.address)
    ended = threading.Event()
    machine = threading.Thread(
        target=report_own, args=(server.service.report, ended), kwargs={"site": config.site}, name="machine"
    )
    machine.start()
    try:
        looks = itertools.count(1)
        while not stop.wait(LOOK_EVERY_S):
            if next(looks) % SEEN_EVERY_LOOKS == 0:
                server.keep_seen()
            if config.idle_exit_s is not None and server.service.idle_s() > config.idle_exit_s:
                log.info("nobody asked for %.0f s and no cell is leased: the fleet ends", config.idle_exit_s)
                return
        log.info("stopped")
    finally:
        ended.set()
        machine.join()  # a look has a deadline
        server.close()


def address_path(home: Path) -> Path:
    """Where a fleet says where it listens."""
    return home / "fleet" / "address.json"


def read_address(home: Path) -> Address | None:
    """Where the home's fleet listens or last listened; None when there never was one."""
    try:
        return msgspec.json.decode(address_path(home).read_bytes(), type=Address)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _listen(service: FleetService, authority: Authority, config: ServeConfig) -> tuple[grpc.Server, str]:
    host, _, port = config.listen.rpartition(":")
    last = read_address(config.home)
    if port == "0" and last:
        try:
            return _bind(service, authority, f"{host}:{last.address.rpartition(':')[2]}")
        except ConfigError:
            log.info("the last port of %s is taken, any other will do", last.address)
    return _bind(service, authority, config.listen)


def _bind(service: FleetService, authority: Authority, address: str) -> tuple[grpc.Server, str]:
    threads = THREADS + WATCHES + WAITERS  # started when they are needed; a stream has one to itself
    server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="fleet"), options=OPTIONS)
    add_FleetServicer_to_server(service, server)
    keys = authority.server_bundle
    credentials = grpc.ssl_server_credentials(
        [(keys.key_pem.encode(), keys.cert_pem.encode())], keys.ca_pem.encode(), require_client_auth=True
    )
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        server.stop(None)
        raise ConfigError(
            f"cannot listen on {address}: it is taken or not ours; free it or give --listen HOST:PORT"
        ) from error
    server.start()
    return server, f"{address.rpartition(':')[0]}:{port}"


def _reachable(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]", "") else address
