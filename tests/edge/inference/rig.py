"""Acting from afar on a bench: a real server, a real courier and a loop's actor, joined by memory and TCP."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from cloud.inference.brain import Brain
from cloud.inference.config import ServingConfig
from cloud.inference.service import InferenceServer
from cloud.weights import WeightStore
from edge.acting import LocalActor, Proposal
from edge.inference.config import InferenceConfig
from edge.inference.courier import Courier, Errand
from edge.inference.remote import RemoteActor
from edge.inference.window import Window
from edge.shared import Shared, make_shared
from hal.cell import Observation
from policies.config import ActorSpec
from tests.edge.rig import ConstantPolicy, version
from user_rl.clock import SystemClock
from user_rl.fleet import InferencePlace
from user_rl.rows import make_schema
from user_rl.specs import Array, Box, Image, box
from user_rl.trust import Bundle, CurveKeys, new_curve_keys
from user_rl.versions import PolicySpec, Version, version_folder

STATE = box("state", [("x", "m", -100, 100), ("y", "m", -100, 100)])
COMMAND = box("command", [("dx", "m", -1, 1), ("dy", "m", -1, 1)])
SCHEMA = make_schema({"observation.state": STATE, "observation.images.wrist": Image(name="wrist", height=32, width=32)},
                     COMMAND)  # fmt: skip
CLOUD, ARM, OTHER = new_curve_keys(), new_curve_keys(), new_curve_keys()
RUN, BOOT = "run", "ab" * 16
LOCAL = -0.25  # what the policy beside the robot commands
PATIENCE_S = 20.0


def bundle_of(curve: CurveKeys, server: CurveKeys = CLOUD, name: str = "arm") -> Bundle:
    """Keys as an enrolled edge has them."""
    return Bundle(
        kind="edge", name=name, fleet_address="", server_name="", ca_pem="", cert_pem="", key_pem="", curve=curve,
        server_curve_public=server.public,
    )  # fmt: skip


def publish(store: WeightStore, value: float, action: Box = COMMAND) -> Version:
    """A version whose policy always commands `value`."""
    spec = ActorSpec(state=2, hidden=(4,), log_std_min=-5.0, log_std_max=2.0, pixel_features=1)
    shapes = {"layers.0.weight": (4, 2), "layers.0.bias": (4,), "head.weight": (4, 4), "head.bias": (4,)}
    tensors: dict[str, Array] = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    tensors |= {"normaliser.mean": np.zeros(2, np.float32), "normaliser.scale": np.ones(2, np.float32)}
    tensors["head.bias"][:2] = np.arctanh(np.float32(value))
    policy = PolicySpec(kind="mlp", action=action, settings=spec.settings)
    return store.publish(tensors, policy, schema=SCHEMA.digest, updates=0, incarnation="test")


class Afar:
    """One cell `arm` of the run, and whoever infers for it."""

    def __init__(self, path: Path, stack: ExitStack, config: InferenceConfig, *, rate_hz: float) -> None:
        self.store, self.clock = WeightStore(path / "weights"), SystemClock()
        self.tokens: dict[str, int] = {"arm": 1}
        self.allowed = {ARM.public: "edge:arm", OTHER.public: "edge:other"}
        self._stack, self.config, self.rate_hz = stack, config, rate_hz
        self.shared = make_shared(bytes(16))
        stack.callback(self.shared.close)
        self.window = Window(self.shared, SCHEMA)
        self.actor = RemoteActor(Window(Shared(self.shared.fd), SCHEMA), config, self.clock)
        self.actor.over(LocalActor(ConstantPolicy([], LOCAL), version(90)))
        self.seen = Observation(
            values={
                "observation.state": np.zeros(2, np.float32),
                "observation.images.wrist": np.zeros((32, 32, 3), np.uint8),
            },
            stamps_s={},
        )

    def serve(self, address: str = "tcp://127.0.0.1:0", keys: CurveKeys = CLOUD) -> InferenceServer:
        """A server in a thread, until it is stopped or the test ends."""

        def newest() -> Path | None:
            found = self.store.newest()
            return None if found is None else version_folder(self.store.root, found.number)

        config = ServingConfig(weights_every_s=0.05)
        made = InferenceServer(
            RUN, address, Brain(newest, config), config, keys=keys, allowed=lambda: self.allowed,
            tokens=self.tokens.get, clock=self.clock,
        )  # fmt: skip
        self.thread = threading.Thread(target=made.run)
        self.thread.start()
        self._stack.callback(self.thread.join)
        self._stack.callback(made.stop)
        return made

    def send(self, *places: InferencePlace, curve: CurveKeys = ARM) -> Courier:
        """A courier in its thread, which knows these places."""
        made = Courier(
            self.window, SCHEMA, self.config, bundle_of(curve), site="", rate_hz=self.rate_hz, clock=self.clock
        )
        made.errand = Errand(run=RUN, boot=BOOT, places=places)
        made.start()
        self._stack.callback(made.stop)
        return made

    def steps(self, count: int) -> list[Proposal | None]:
        """So many control steps at the rate, each at its deadline."""
        start_s, found = self.clock.now_s(), []
        for i in range(count):
            found.append(self.actor.propose(self.seen, explore=False))
            self.clock.sleep_until(start_s + (i + 1) / self.rate_hz)
        return found

    def until(self, true: Callable[[Proposal | None], object]) -> Proposal | None:
        """Steps until one is so."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            [proposal] = self.steps(1)
            if true(proposal):
                return proposal
            assert time.monotonic() < deadline_s, f"it did not happen; the last was {proposal}"


def cloud_at(address: str, **changes: str) -> InferencePlace:
    """The place beside the gateway."""
    return InferencePlace(**{"name": "cloud", "address": address, **changes})


def value_of(proposal: Proposal | None) -> float | None:
    """The first element of what acted."""
    return None if proposal is None else round(float(proposal.action[0]), 4)
