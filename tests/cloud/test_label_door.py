"""The gateway's labels socket, over the wire."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.authority import Authority
from cloud.gateway import Gateway, GatewayConfig
from cloud.label_client import RemoteColumns
from cloud.label_door import PAYLOAD_BYTES
from cloud.run import RunFolder, keep_config
from cloud.testing import episode_rows, state_schema
from user_rl.channels import ClientChannel
from user_rl.clock import SystemClock
from user_rl.columns import Column, ColumnReader, Columns, Verdict, column_from_name
from user_rl.columns.entry import pack
from user_rl.columns.testing import Bounds
from user_rl.errors import SpecError, StorageBusy, Unauthorized, WireError
from user_rl.log import Log
from user_rl.trust import CurveKeys
from user_rl.wire import Label, Refused, decode, digest, encode

STREAM = f"cell-0/{'ab' * 16}/peg-1"
REWARD = column_from_name("reward@classifier-3")
PATIENCE_S = 20.0


class Served:
    """A gateway of the run peg-1, whose log has five episodes of ten rows."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path / "runs" / "peg-1")
        keep_config(self.folder, {"overrides": [], "tree": {}})
        self.authority = Authority(path / "home" / "authority")
        self.server = self.authority.server_bundle.curve
        schema, rng = state_schema(), np.random.default_rng(0)
        self.log = Log(self.folder.log)
        self.log.open_stream(STREAM, schema)
        for n in range(5):
            self.log.append(STREAM, episode_rows(schema, rng, length=9, first_step=10 * n, number=n))
        self.log.commit()
        self.gateway = Gateway(
            "peg-1", self.log, self.folder.weights, GatewayConfig(), keys=self.server, allowed=self.authority.allowed,
            tokens=lambda _: None, demonstrations=0, clock=SystemClock(),
        )  # fmt: skip
        self._thread = threading.Thread(target=self.gateway.run)
        self._thread.start()

    def keys(self, kind: str, name: str) -> CurveKeys:
        return self.authority.mint(name, kind=kind, fleet_address="").curve  # type: ignore[arg-type]

    def columns(self, kind: str = "labeller", name: str = "classifier", run: str = "peg-1") -> RemoteColumns:
        address = self.gateway.labels_address
        return RemoteColumns(address, run, self.keys(kind, name), self.server.public, clock=SystemClock())

    def stop(self) -> None:
        self.gateway.stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        self.log.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.stop()


def write_one(columns: RemoteColumns, column: Column = REWARD) -> list[int]:
    columns.add(column)
    found: list[int] = columns.write(column.identity, STREAM, np.array([1]), [1.0]).tolist()
    return found


@pytest.mark.slow
def test_labels_cross_the_wire_and_are_durable_when_answered(served: Served) -> None:
    with served.columns() as columns:
        columns.add(REWARD)
        verdicts = columns.write(REWARD.identity, STREAM, np.array([3, 49, 50]), [1.0, 2.0, 3.0])
        assert verdicts.tolist() == [Verdict.WRITTEN, Verdict.WRITTEN, Verdict.UNKNOWN]
        assert columns.commit() == {REWARD.identity: 1}
        assert columns.write(REWARD.identity, STREAM, np.array([3, 49]), [1.0, 9.0]).tolist() == [1, 2]
        assert columns.commit() == {}
    counts = served.gateway.status()["labels"]
    assert counts == {"written": 2, "same": 1, "conflict": 1, "unknown": 1, "evicted": 0, "invalid": 0}
    served.stop()  # a process opens a column once
    with ColumnReader(served.folder.root / "columns") as reader:
        values, present = reader.values(REWARD.identity, STREAM, np.array([3, 4, 49]))
        assert values.tolist() == [1.0, 0.0, 2.0]
        assert present.tolist() == [True, False, True]


@pytest.mark.slow
def test_many_wide_values_go_in_parts(served: Served) -> None:
    column = column_from_name("embedding@classifier-1", shape=(60_000,))
    with served.columns() as columns:
        columns.add(column)
        values = np.random.default_rng(0).standard_normal((20, 60_000), dtype=np.float32)
        assert not columns.write(column.identity, STREAM, np.arange(20), values).any()
        assert columns.commit()[column.identity] > 1
    served.stop()
    with ColumnReader(served.folder.root / "columns") as reader:
        assert np.array_equal(reader.values(column.identity, STREAM, np.arange(20))[0], values)


@pytest.mark.slow
def test_who_may_not_label_is_told_so(served: Served) -> None:
    with served.columns("labeller", "other") as columns, pytest.raises(
        Unauthorized, match=re.escape("reward@classifier-3 from labeller:other, allowed labeller:classifier, run:peg-1")
    ):  # fmt: skip
        write_one(columns)
    with served.columns("edge", "classifier") as columns, pytest.raises(Unauthorized):
        write_one(columns)
    with served.columns("run", "other") as columns, pytest.raises(Unauthorized):
        write_one(columns)
    with served.columns("run", "peg-1") as columns:
        assert write_one(columns) == [Verdict.WRITTEN]
    with served.columns("admin", "anna") as columns:
        assert write_one(columns) == [Verdict.SAME]


@pytest.mark.slow
def test_labels_that_make_no_sense_are_refused_with_the_reason(served: Served) -> None:
    with served.columns(run="peg-2") as columns, pytest.raises(WireError, match="labels of run peg-2, allowed peg-1"):
        write_one(columns)
    with served.columns() as columns:
        write_one(columns)
        columns.add(column_from_name(REWARD.identity, unit="m"))
        with pytest.raises(SpecError, match=r"write a new version$"):
            columns.write(REWARD.identity, STREAM, np.array([1]), [1.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "payload", "code"),
    [
        ({"digest": 5}, None, "digest"),
        ({"column": b"{}"}, None, "column"),
        ({"column": msgspec.json.encode(msgspec.structs.replace(REWARD, dtype="O"))}, None, "column"),
        ({}, b"", "malformed"),
        ({}, b"\0" * 7, "malformed"),
        ({}, pack(REWARD, 0, np.arange(4), np.zeros(4, "<f4"))[:-1], "malformed"),
        ({}, pack(REWARD, 0, np.arange(70_000), np.zeros(70_000, "<f4")), "malformed"),
    ],
)
def test_a_message_that_was_forged_is_refused_and_the_door_stays_open(
    served: Served, changes: dict[str, object], payload: bytes | None, code: str
) -> None:
    data = pack(REWARD, 0, np.array([1]), np.ones(1, "<f4")) if payload is None else payload
    label = Label("peg-1", msgspec.json.encode(REWARD), STREAM, digest(data))
    channel = ClientChannel(served.gateway.labels_address, served.keys("admin", "anna"), served.server.public)
    clock = SystemClock()
    deadline_s = clock.now_s() + PATIENCE_S
    while not channel.send(encode(msgspec.structs.replace(label, **changes), data)):
        assert clock.now_s() < deadline_s
    frames = channel.receive(PATIENCE_S)
    assert frames is not None
    answer, _ = decode(frames)
    channel.close()
    assert isinstance(answer, Refused)
    assert answer.code == code
    assert len(data) < PAYLOAD_BYTES
    with served.columns() as columns:
        assert write_one(columns) == [Verdict.WRITTEN]


@pytest.mark.slow
def test_the_command_asks_the_gateway_that_has_the_columns(served: Served, tmp_path: Path) -> None:
    with served.columns() as columns:
        write_one(columns)
    (tmp_path / "a.csv").write_text(f"stream,step,value\n{STREAM},1,1\n{STREAM},2,5\n{STREAM},99,5\n")
    args = ["--column", "reward", "--writer", "classifier", "--version", "3", "--from", str(tmp_path / "a.csv")]
    home = ["--home", str(tmp_path / "home"), "--runs", str(tmp_path / "runs")]
    done = subprocess.run(
        [sys.executable, "-m", "cloud.main", "label", "peg-1", *home, *args],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.stdout.startswith("reward@classifier-3: 1 written, 1 same, 1 unknown\n"), done.stderr
    assert done.returncode == 1
    assert not [name for name in served.authority.enrolled() if name.startswith("admin:label-")]


@pytest.mark.slow
def test_a_labeller_on_this_machine_that_has_the_columns_is_named(served: Served) -> None:
    with (
        Columns(served.folder.root / "columns", Bounds({})),
        served.columns() as columns,
        pytest.raises(StorageBusy, match="columns is held by process"),
    ):
        write_one(columns)
