"""A real fleet in this process, on a clock that the test moves, and enrolled clients of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.fleet import FleetServer, ServeConfig
from tests.cloud.fleet.bench import Bench
from user_rl.clock import FakeClock
from user_rl.fleet import FleetClient
from user_rl.trust import Kind

Enrol = Callable[[str, Kind], FleetClient]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(100.0)


@pytest.fixture
def fleet(home: Path, clock: FakeClock) -> Iterator[FleetServer]:
    server = FleetServer(ServeConfig(home=home), clock=clock)
    yield server
    server.close()


@pytest.fixture
def authority(home: Path) -> Authority:
    return Authority(home / "authority")


@pytest.fixture
def enrol(fleet: FleetServer, authority: Authority) -> Iterator[Enrol]:
    with ExitStack() as stack:

        def enrolled(name: str, kind: Kind) -> FleetClient:
            bundle = authority.mint(name, kind=kind, fleet_address=fleet.address)
            return stack.enter_context(FleetClient(bundle, deadline_s=30.0))

        yield enrolled


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "fleet.sqlite")
    yield made
    made.store.close()
