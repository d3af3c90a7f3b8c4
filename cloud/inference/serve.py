"""`user-rl serve-inference`: the server of one run on a site near its robots. It needs no Ray and keeps nothing.

It pulls weights from the run's gateway as an edge does, asks it whom it may answer, and listens under the keys of its
own bundle (kind `inference`). The run announces it: `inference.places` holds its name, site, address and public key.
"""

import argparse
import logging
import signal
from dataclasses import replace
from pathlib import Path

from cloud.inference.brain import Brain
from cloud.inference.config import ServingConfig
from cloud.inference.service import InferenceServer
from cloud.inference.supply import Supply
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError
from user_rl.trust import Bundle, load_bundle

log = logging.getLogger(__name__)


class SiteServer:
    """The server with its supply. `run` in one thread; `stop` from any."""

    def __init__(self, bundle: Bundle, run: str, weights: str, listen: str, root: Path, config: ServingConfig) -> None:
        """`weights`: tcp://HOST:PORT of the gateway's weights socket; `listen`: likewise, port 0: a free one."""
        if bundle.kind != "inference":
            raise ConfigError(f"bundle {bundle.identity}, allowed kind inference; enrol it with --kind inference")
        clock = SystemClock()
        self._supply = Supply(run, weights, bundle, root / run, config, clock=clock)
        self.server = InferenceServer(
            run, listen, Brain(self._supply.folder, config), config, keys=bundle.curve, allowed=self._supply.allowed,
            tokens=self._supply.tokens, clock=clock,
        )  # fmt: skip

    def run(self) -> None:
        """Serves until `stop`."""
        self._supply.start()
        try:
            self.server.run()
        finally:
            self._supply.stop()

    def stop(self) -> None:
        """Ends `run` within a tick."""
        self.server.stop()


def serve(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or ^C; returns the exit status."""
    import torch

    logging.getLogger().setLevel(logging.INFO)
    config = replace(ServingConfig(), threads=args.threads)
    torch.set_num_threads(config.threads)
    bundle = load_bundle(Path(args.bundle).expanduser())
    site = SiteServer(bundle, args.run, args.weights, args.listen, Path(args.home).expanduser() / "inference", config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: site.stop())
    log.info("announce it to the run: inference.places=[%s]", announcement(bundle, site.server.address))
    site.run()
    return 0


def announcement(bundle: Bundle, address: str) -> str:
    """What the run is told of this server."""
    return f"{{name: {bundle.name}, site: SITE, address: '{address}', curve_public: '{bundle.curve.public}'}}"
