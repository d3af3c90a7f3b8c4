"""The systemd unit: what it promises, that systemd understands it, and who may install it."""

import configparser
import getpass
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.main import main
from edge.unit import install, make_unit
from user_rl.config import build
from user_rl.errors import ConfigError, StorageError


def config(path: Path, **changes: object) -> EdgeConfig:
    tree = {"name": "arm-1", "bundle": str(path / "b"), "home": str(path / "edge"), "robot": {}, "task": {}}
    return build(EdgeConfig, {**tree, **changes})


def parsed(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as documented
    parser.read_string(text)
    return parser


def test_it_restarts_may_be_real_time_is_watched_and_writes_nothing_but_its_home(tmp_path: Path) -> None:
    unit = make_unit(config(tmp_path, stop_s=20.0, drain_s=30.0), tmp_path / "edge.json", user="robot")
    service = parsed(unit.text)["Service"]
    assert unit.name == "user-rl-edge-arm-1.service"
    assert service["ExecStart"].endswith(f"run --config {tmp_path}/edge.json")
    assert Path(service["ExecStart"].split()[0]).is_absolute()
    wanted = {
        "Type": "notify", "Restart": "always", "RestartPreventExitStatus": "2", "LimitRTPRIO": "50", "User": "robot",
        "KillMode": "mixed", "ReadWritePaths": f"{tmp_path}/edge", "ProtectSystem": "strict", "WatchdogSec": "30",
        "TimeoutStopSec": str(20 + 10 + 2 * 50 + 5),
    }  # fmt: skip
    assert {key: service[key] for key in wanted} == wanted
    assert not {"PrivateDevices", "RestrictRealtime", "DevicePolicy"} & set(service)  # robots are devices, FIFO is real


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = make_unit(config(tmp_path), tmp_path / "edge.json")
    assert all("=" in line or line.startswith("[") or not line for line in unit.text.splitlines())
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here; the unit was parsed")
    path = tmp_path / unit.name
    path.write_text(unit.text)
    argv = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    ours = [line for line in done.stderr.splitlines() if unit.name in line]
    assert not ours
    broken = unit.text.replace("WatchdogSec=30", "WatchdogSec=soon")
    path.write_text(broken)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert "Failed to parse" in done.stderr  # it does look


def test_a_home_is_the_users_and_paths_are_whole(tmp_path: Path) -> None:
    user = getpass.getuser()
    assert make_unit(config(tmp_path, home="~/edge"), tmp_path / "c", user=user).home == Path.home() / "edge"
    with pytest.raises(ConfigError, match=r"bundle = arm.bundle, allowed a path from / or ~/"):
        make_unit(config(tmp_path, bundle="arm.bundle"), tmp_path / "c")
    with pytest.raises(ConfigError, match=r"cannot stand in a unit file, allowed no space"):
        make_unit(config(tmp_path, home="/a b"), tmp_path / "c")
    assert "ReadWritePaths=/100%%" in make_unit(config(tmp_path, home="/100%"), tmp_path / "c").text


@pytest.mark.skipif(os.getuid() != 0, reason="only root installs")
def test_it_is_installed_when_the_person_says_so(tmp_path: Path) -> None:
    unit = make_unit(config(tmp_path), tmp_path / "edge.json")
    assert install(unit, ask=lambda _: "n", folder=tmp_path) is None
    assert not (tmp_path / unit.name).exists()
    assert install(unit, ask=lambda _: "y", folder=tmp_path) == tmp_path / unit.name
    assert (tmp_path / unit.name).read_text() == unit.text
    assert (tmp_path / "edge").is_dir()
    assert install(unit, ask=None, folder=tmp_path) is not None
    with pytest.raises(StorageError, match="see the folder and the user"):
        install(make_unit(config(tmp_path), tmp_path / "c", user="no-such-user"), ask=None, folder=tmp_path)


def test_anyone_else_is_told_that_root_installs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(ConfigError, match="is written by root, this is"):
        install(make_unit(config(tmp_path), tmp_path / "c"), ask=None, folder=tmp_path)


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.json"
    file.write_text(f'{{"name": "arm-1", "bundle": "/b", "home": "{tmp_path}/edge", "robot": {{}}, "task": {{}}}}')
    assert main(["unit", "--config", str(file)]) == 0
    assert parsed(capsys.readouterr().out)["Service"]["Type"] == "notify"
    if os.getuid() == 0:
        assert main(["unit", "--config", str(file), "--install"]) == 2
        assert "this asks a person, and there is no terminal" in capsys.readouterr().err
