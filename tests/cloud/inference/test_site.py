"""A server on a site of its own: weights and guests come from the run's gateway, over real sockets."""

import argparse
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cloud.authority import Authority
from cloud.config import LaunchConfig
from cloud.gateway import Gateway, GatewayConfig
from cloud.inference.actor import newest_of, places_of
from cloud.inference.arguments import add_serve
from cloud.inference.config import ServingConfig
from cloud.inference.guests import guests_of
from cloud.inference.serve import SiteServer, announcement
from cloud.weights import WeightStore
from edge.inference.config import InferenceConfig, Where
from tests.edge.inference.rig import RUN, Afar, publish, value_of
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.config import build
from user_rl.errors import ConfigError
from user_rl.fleet import InferencePlace
from user_rl.log import Log
from user_rl.trust import Bundle
from user_rl.versions import version_folder
from user_rl.wire import GuestsQuery, Refused, decode, encode

REMOTE = InferenceConfig(where=Where.REMOTE, probe_s=0.05, remember_s=0.6, settle_s=0.2, pictures="raw")


class Site:
    """The run's gateway, a server with a bundle of its own, and the keys of an edge."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.authority = Authority(path / "authority")
        self.bundle = self.authority.mint("site-a", kind="inference", fleet_address="")
        self.edge = self.authority.mint("arm", kind="edge", fleet_address="")
        self.tokens = {"arm": 1}
        self.log = Log(path / "run" / "log")
        stack.callback(self.log.close)
        self.gateway = Gateway(
            RUN, self.log, path / "run" / "weights", GatewayConfig(), keys=self.authority.server_bundle.curve,
            allowed=self.authority.allowed, tokens=self.tokens.get, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self.store = WeightStore(path / "run" / "weights")
        config = ServingConfig(weights_every_s=0.05)
        self.site = SiteServer(
            self.bundle, RUN, self.gateway.weights_address, "tcp://127.0.0.1:0", path / "site", config
        )
        for part in (self.gateway, self.site):
            thread = threading.Thread(target=part.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(part.stop)

    def place(self) -> InferencePlace:
        """As the run announces it."""
        return InferencePlace(
            name="site-a", site="a", address=self.site.server.address, curve_public=self.bundle.curve.public
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.mark.slow
def test_it_answers_leased_cells_by_the_weights_of_the_run_and_nobody_else(site: Site, tmp_path: Path) -> None:
    with ExitStack() as stack:
        afar = Afar(tmp_path / "edge", stack, REMOTE, rate_hz=100.0)
        publish(site.store, 0.5)
        afar.until(lambda _: site.site.server.status()["version"] == 1)
        afar.send(site.place(), curve=site.edge.curve)
        afar.actor.begin()
        acted = afar.until(lambda p: value_of(p) == 0.5)
        assert acted is not None
        assert acted.version_hash == site.store.manifest(1).digest16
        publish(site.store, -0.75)
        afar.until(lambda p: value_of(p) == -0.75)
        site.tokens.clear()
        afar.until(lambda p: value_of(p) == -0.25)


@pytest.mark.slow
def test_only_a_server_that_infers_is_told_who_the_guests_are(site: Site) -> None:
    client = ClientChannel(site.gateway.weights_address, site.edge.curve, site.bundle.server_curve_public)
    try:
        assert client.ready(10.0)
        client.send(encode(GuestsQuery(RUN)))
        frames = client.receive(10.0)
        assert frames is not None
        text = "the guests of run are not for edge:arm, allowed inference:NAME; enrol it so"
        assert decode(frames)[0] == Refused("", "identity", text)
    finally:
        client.close()


def test_guests_are_edges_that_are_enrolled_and_leased() -> None:
    allowed = {"a" * 40: "edge:arm", "b" * 40: "edge:other", "c" * 40: "run:run", "d" * 40: "inference:site-a"}
    assert guests_of(lambda: allowed, {"arm": 1, "run": 1, "site-a": 1}.get) == {"a" * 40: "arm"}


def test_a_bundle_of_another_kind_cannot_serve(tmp_path: Path) -> None:
    bundle: Bundle = Authority(tmp_path).mint("arm", kind="edge", fleet_address="")
    with pytest.raises(ConfigError, match="bundle edge:arm, allowed kind inference; enrol it with --kind inference"):
        SiteServer(bundle, RUN, "tcp://127.0.0.1:1", "tcp://127.0.0.1:0", tmp_path, ServingConfig())


def test_what_it_says_of_itself_is_what_the_run_is_told(tmp_path: Path) -> None:
    bundle = Authority(tmp_path).mint("site-a", kind="inference", fleet_address="")
    words = announcement(bundle, "tcp://10.0.0.7:5600")
    assert words == (
        f"{{name: site-a, site: SITE, address: 'tcp://10.0.0.7:5600', curve_public: '{bundle.curve.public}'}}"
    )
    places = [{"name": "site-a", "site": "a", "address": "tcp://10.0.0.7:5600", "curve_public": bundle.curve.public}]
    config = build(LaunchConfig, {"inference": {"places": places}})
    assert places_of(config, None) == (
        InferencePlace(name="site-a", site="a", address="tcp://10.0.0.7:5600", curve_public=bundle.curve.public),
    )


def test_the_run_announces_its_own_server_before_the_sites() -> None:
    tree = {
        "gateway": {"advertise": "cloud.example"}, "ray": {"site": "dc"},
        "inference": {"serve": True, "places": [{"name": "site-a", "address": "tcp://10.0.0.7:5600"}]},
    }  # fmt: skip
    own, other = places_of(build(LaunchConfig, tree), 7000)
    assert own == InferencePlace(name="cloud", address="tcp://cloud.example:7000", site="dc")
    assert other.name == "site-a"


def test_two_places_of_one_name_are_refused() -> None:
    places = [{"name": "cloud", "address": "tcp://10.0.0.7:5600"}]
    config = build(LaunchConfig, {"inference": {"places": places}})
    with pytest.raises(ConfigError, match=re.escape("inference.places = cloud, cloud, allowed one name each; rename")):
        places_of(config, 7000)


def test_beside_the_gateway_the_newest_of_the_runs_own_store_acts(tmp_path: Path) -> None:
    source = newest_of(tmp_path)
    assert source() is None
    publish(WeightStore(tmp_path), 0.5)
    assert source() == version_folder(tmp_path, 1)


def test_the_command_line_says_what_it_needs() -> None:
    parser = argparse.ArgumentParser()
    add_serve(parser.add_subparsers(), home="~/.user-rl")
    wanted = ["serve-inference", "--bundle", "b.json", "--run", "r", "--weights", "tcp://h:1"]
    args = parser.parse_args(wanted)
    assert (args.listen, args.threads, args.home) == ("tcp://0.0.0.0:5600", 1, "~/.user-rl")
    with pytest.raises(SystemExit):
        parser.parse_args(wanted[:-2])
