"""The server that infers beside the gateway, as the run's Ray actor: a function of the run's folder."""

import os
from pathlib import Path
from typing import Any

from cloud.authority import Authority
from cloud.claim import token_reader
from cloud.config import LaunchConfig
from cloud.inference.brain import Brain, Source
from cloud.inference.service import InferenceServer
from cloud.run import RunFolder
from cloud.schema_file import kept_schema
from cloud.weights import WeightStore
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError
from user_rl.fleet import InferencePlace
from user_rl.versions import version_folder

CLOUD = "cloud"  # the place's name
INFERENCE = "inference"  # the actor's name in the run's Ray namespace


class InferenceActor:
    """The server in its process."""

    def __init__(self, root: str, config: LaunchConfig, port: int) -> None:
        import torch

        serving = config.inference.server
        torch.set_num_threads(serving.threads)
        folder, home = RunFolder(Path(root)), Path(config.home).expanduser()
        authority = Authority(home / "authority")
        brain = Brain(newest_of(folder.weights), serving, seed=config.seed, schema=kept_schema(folder.root))
        self._server = InferenceServer(
            folder.name, f"tcp://{config.gateway.host}:{port}", brain, serving, keys=authority.server_bundle.curve,
            allowed=authority.allowed, tokens=token_reader(folder.leases), clock=SystemClock(),
        )  # fmt: skip

    def run(self) -> None:
        """Serves until `stop`."""
        self._server.run()

    def stop(self) -> None:
        """Ends `run`."""
        self._server.stop()

    def status(self) -> dict[str, Any]:
        """The server's counters, and this process."""
        return {"inference_pid": os.getpid(), "inference": self._server.status()}


def newest_of(root: Path) -> Source:
    """The version that edges are offered, looked up anew at each call."""
    store = WeightStore(root)

    def offered() -> Path | None:
        version = store.offered()
        return None if version is None else version_folder(root, version.number)

    return offered


def places_of(config: LaunchConfig, port: int | None) -> tuple[InferencePlace, ...]:
    """Who infers for the run, as the fleet tells its edges. Raises ConfigError for two of one name."""
    host = config.gateway.advertise or config.gateway.host
    own = () if port is None else (InferencePlace(name=CLOUD, address=f"tcp://{host}:{port}", site=config.ray.site),)
    places = (*own, *config.inference.places)
    names = [place.name for place in places]
    if len(set(names)) < len(names) or not all(names):
        raise ConfigError(f"inference.places = {', '.join(names)}, allowed one name each; rename one")
    return places
