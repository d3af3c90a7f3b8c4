"""What a person gets wrong ends in one clear line: what, which value, what was allowed, what to do. Nothing starts."""

import socket
from pathlib import Path

import pytest

from cloud.main import main


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *args: str) -> str:
    overrides = [f"runs={tmp_path}/runs", f"home={tmp_path}/home", "experiment=peg_insertion_rlpd"]
    assert main(["launch", *overrides, *args]) == 1
    said = capsys.readouterr().err
    assert said.startswith("user-rl: ")
    assert said.count("\n") == 1
    return said.removeprefix("user-rl: ").strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learner.max_updatez=5", "learner.max_updatez: no such key, did you mean learner.max_updates?"),
        ("learner.max_updates=many", "learner.max_updates = 'many', allowed a int; change its value"),
        ("algorithm=rldp", "algorithm=rldp: no such choice, did you mean rlpd?"),
        ("experiment=peg_insertion", "experiment=peg_insertion: no such choice, did you mean peg_insertion_rlpd?"),
        ("robot.no_such_key=1", "robot.no_such_key: no such key, "),
        ("tracker=mlflow", "tracker = 'mlflow', allowed none, wandb, tensorboard; choose one of these"),
        ("robots.count=0", "robots.count = 0, allowed 1 or more; a run without a robot learns nothing"),
    ],
)
def test_a_typo_in_the_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, override: str, message: str
) -> None:
    assert refused(capsys, tmp_path, override).startswith(message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_disk_without_room_for_a_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, tmp_path, f"disk.floor_bytes={2**60}", "run=r")
    assert said.startswith("the disk ")
    assert said.endswith("allowed 1.15e+03 PB or more to start a run; free space, or lower disk.floor_bytes")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_missing_demonstration_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert refused(capsys, tmp_path, "demonstrations.path=/no/such/run") == (
        "demonstrations.path = /no/such/run: no experience log there; give the folder of a run or its log"
    )


@pytest.mark.slow
def test_a_port_that_is_in_use(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(capsys, tmp_path, f"gateway.port={port}")
        assert said.startswith(
            f"gateway port 127.0.0.1:{port}: Address already in use, allowed a free one; free it, or"
        )


def test_a_run_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in (["resume", "nothing"], ["status", "nothing"], ["eval", "nothing"]):
        assert main([*command, "--runs", str(tmp_path)]) == 1
        assert capsys.readouterr().err == (
            f"user-rl: run nothing: not found in {tmp_path}, allowed: none yet; start one with user-rl launch\n"
        )
