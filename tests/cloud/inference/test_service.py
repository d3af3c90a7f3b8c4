"""The server that infers, over the wire: who is answered, with what, and who is not."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.inference.brain import Brain, Loaded
from cloud.inference.config import ServingConfig
from cloud.inference.service import InferenceServer
from cloud.weights import WeightStore
from tests.edge.inference.rig import ARM, CLOUD, OTHER, RUN, SCHEMA, publish
from tests.edge.rig import ConstantPolicy, version
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.errors import ConfigError
from user_rl.seen import pack
from user_rl.specs import Array
from user_rl.trust import CurveKeys
from user_rl.versions import version_folder
from user_rl.wire import Actions, Declined, Infer, Message, Probe, Probed, WeightsQuery, decode, encode

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
VALUES: dict[str, Array] = {
    "observation.state": np.zeros(2, np.float32),
    "observation.images.wrist": np.zeros((32, 32, 3), np.uint8),
}


class PrefixPolicy(ConstantPolicy):
    """See policies.policy.Policy: it goes on from the last action of its prefix, or from 0."""

    horizon, takes_prefix = 8, True

    def act_chunks(
        self, observations: Mapping[str, Array], *, explore: bool, prefix: Array | None = None, effort: float = 1.0
    ) -> Array:
        start = np.zeros((0, 2), np.float32) if prefix is None else prefix[0]
        last = start[-1] if len(start) else np.zeros(2, np.float32)
        return np.concatenate([start, np.tile(last, (8 - len(start), 1))]).astype(np.float32)[None]


class Served:
    """A server with its store, and a client of `arm`."""

    def __init__(self, path: Path, stack: ExitStack, *, published: bool = True) -> None:
        self.store, self._stack = WeightStore(path / "weights"), stack
        if published:
            publish(self.store, 0.5)
        config = ServingConfig(weights_every_s=0.02)
        self.brain = Brain(self.newest, config)
        self.server = InferenceServer(
            RUN, "tcp://127.0.0.1:0", self.brain, config, keys=CLOUD, tokens={"arm": 1}.get, clock=SystemClock(),
            allowed=lambda: {ARM.public: "edge:arm", OTHER.public: "edge:other"},
        )  # fmt: skip
        thread = threading.Thread(target=self.server.run)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.server.stop)
        self.client = self.connect(ARM)

    def newest(self) -> Path | None:
        found = self.store.newest()
        return None if found is None else version_folder(self.store.root, found.number)

    def connect(self, keys: CurveKeys) -> ClientChannel:
        made = ClientChannel(self.server.address, keys, CLOUD.public)
        self._stack.callback(made.close)
        assert made.ready(PATIENCE_S)
        return made

    def ask(self, message: Message, *payloads: bytes, client: ClientChannel | None = None) -> tuple[Message, bytes]:
        to = client or self.client
        assert to.send(encode(message, *payloads))
        return self.hear(to)

    def hear(self, client: ClientChannel) -> tuple[Message, bytes]:
        frames = client.receive(PATIENCE_S)
        assert frames is not None
        message, payload = decode(frames)
        return message, b"".join(bytes(p) for p in payload)

    def probe(self, schema: bytes = SCHEMA.encoded) -> Probed:
        found, _ = self.ask(Probe(RUN, "arm", 12.5, schema))
        assert isinstance(found, Probed)
        return found

    def ready(self) -> None:
        """Until a version acts and the rows are known."""
        while not self.probe().version:
            pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as stack:
        made = Served(tmp_path, stack)
        made.ready()
        yield made


def infer(**changes: object) -> tuple[Infer, bytes]:
    fields, parts = pack(VALUES, "jpeg:90")
    whole = {
        "run": RUN, "cell": "arm", "boot": "00" * 16, "step": 7, "sent_s": 1.0, "within_s": 10.0, "horizon": 10,
        "explore": False, "schema": SCHEMA.digest, "fields": fields, "prefix": 0,
    }  # fmt: skip
    return Infer(**{**whole, **changes}), b"".join(parts)  # type: ignore[arg-type]


def test_an_observation_is_answered_with_a_chunk_of_its_newest_version(served: Served) -> None:
    found, payload = served.ask(*infer())
    assert isinstance(found, Actions)
    assert (found.step, found.version, found.horizon) == (7, 1, 10)
    assert found.version_hash == served.store.manifest(1).digest16
    assert 0 < found.spent_s < PATIENCE_S
    actions = np.frombuffer(payload, "<f4").reshape(10, 2)
    assert np.allclose(actions, 0.5, atol=1e-5)
    assert served.server.status()["answered"] == 1


def test_a_probe_is_answered_with_what_there_is(served: Served) -> None:
    found = served.probe(b"")
    assert (found.sent_s, found.version, found.takes_prefix, found.knows_schema) == (12.5, 1, False, True)
    served.ask(*infer())
    assert served.probe().spent_s > 0


def test_before_the_first_version_a_probe_says_so_and_an_observation_is_declined(tmp_path: Path) -> None:
    with ExitStack() as stack:
        served = Served(tmp_path, stack, published=False)
        assert (served.probe().version, served.probe().knows_schema) == (0, False)
        found, _ = served.ask(*infer())
        assert found == Declined(7, "weights", "there is no version to act by yet")


def test_exploration_differs_from_answer_to_answer(served: Served) -> None:
    answers = {served.ask(*infer(explore=True))[1] for _ in range(4)}
    assert len(answers) == 4


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"run": "other"}, "run", "inference for run other, allowed run; ask its own server"),
        ({"cell": "other"}, "identity", "observations of other from edge:arm, allowed its own edge; enrol it so"),
        ({"schema": "ab" * 16}, "schema", "rows of schema abababab, allowed "),
        ({"fields": ()}, "malformed", "an observation of nothing, allowed "),
        ({"prefix": 1000}, "malformed", "with 1000 actions of 8; drop it"),
        ({"within_s": 0.0}, "late", "past its deadline of 0.000 s"),
    ],
)
def test_what_may_not_be_is_declined_by_its_step_and_reason(
    served: Served, changes: dict[str, object], code: str, words: str
) -> None:
    found, _ = served.ask(*infer(**changes))
    assert isinstance(found, Declined)
    assert (found.step, found.code) == (7, code)
    assert words in found.text
    assert isinstance(served.ask(*infer())[0], Actions)  # the connection goes on


def test_a_cell_that_the_run_does_not_hold_is_not_answered(served: Served) -> None:
    client = served.connect(OTHER)
    found, _ = served.ask(*infer(cell="other"), client=client)
    assert found == Declined(7, "identity", "other is not leased by run run; it waits for a lease")
    found, _ = served.ask(Probe(RUN, "other", 1.0, b""), client=client)
    assert isinstance(found, Declined)


@pytest.mark.parametrize("frames", [[b"\x01nonsense"], [b""], encode(WeightsQuery("run", 0))])
def test_what_is_no_request_is_declined_and_the_server_lives(served: Served, frames: list[bytes | memoryview]) -> None:
    assert served.client.send(frames)
    found, _ = served.hear(served.client)
    assert isinstance(found, Declined)
    assert found.code == "malformed"
    assert isinstance(served.ask(*infer())[0], Actions)


def test_a_schema_that_is_none_is_declined(served: Served) -> None:
    found, _ = served.ask(Probe(RUN, "arm", 1.0, b"no schema"))
    assert isinstance(found, Declined)


def test_a_newer_version_acts_from_the_next_answer_on(served: Served) -> None:
    publish(served.store, -0.75)
    while (found := served.ask(*infer()))[0].version == 1:  # type: ignore[union-attr]
        pass
    assert np.allclose(np.frombuffer(found[1], "<f4"), -0.75, atol=1e-5)


def test_a_policy_that_takes_a_prefix_is_given_it(served: Served) -> None:
    served.brain.stop()
    policy = PrefixPolicy([], 0.0)
    made = msgspec.structs.replace(version(5), schema=SCHEMA.digest)
    served.brain.loaded = Loaded(Path("00000005"), made, policy)
    assert served.probe().takes_prefix
    message, payload = infer(prefix=2)
    prefix = np.array([[0.1, 0.2], [0.3, 0.4]], "<f4")
    found, chunk = served.ask(message, payload + prefix.tobytes())
    assert isinstance(found, Actions)
    assert found.horizon == 8
    assert np.frombuffer(chunk, "<f4").reshape(8, 2)[[0, 1, 7]].tolist() == prefix[[0, 1, 1]].tolist()
    wild = np.array([[0.1, 0.2], [3.0, 0.4]], "<f4")
    declined, _ = served.ask(message, payload + wild.tobytes())
    assert declined == Declined(7, "malformed", "2 planned actions, one of them not allowed; drop it")


def test_a_port_in_use_is_refused(served: Served) -> None:
    with pytest.raises(ConfigError, match="Address already in use; free the port or give another"):
        InferenceServer(
            RUN, served.server.address, served.brain, ServingConfig(), keys=CLOUD, allowed=dict, clock=SystemClock(),
            tokens=dict[str, int]().get,
        )  # fmt: skip
