"""A real daemon in a real small system: it renews itself, leaks no secret, and halts when it is revoked."""

import os
import time
from pathlib import Path

import pytest

from cloud.audit import verify
from cloud.authority import Authority
from edge.main import main
from edge.process import Exit
from tests.edge.plant import FAKE, Daemon, Plant, schema_of, wait_for
from tests.edge.secrets import files_with, processes_with, secrets_of, secrets_of_authority, tree_of
from tests.edge.test_daemon import coasting, moves
from user_rl.trust import load_bundle, save_bundle

pytestmark = pytest.mark.slow


def test_a_robot_renews_itself_leaks_nothing_and_halts_when_its_name_is_revoked(tmp_path: Path) -> None:
    cloud, daemon = Plant(tmp_path), Daemon(tmp_path, {**FAKE, **coasting(tmp_path)})
    cloud.publish(schema_of(daemon.tree))
    path, home = tmp_path / "arm.bundle", tmp_path / "cloud"
    begun = Authority(home / "authority", wall=lambda: time.time() - 20 * 3600)
    first = begun.mint("arm", kind="edge", fleet_address=cloud.server.address, valid_days=1.0)
    save_bundle(first, path)
    try:
        daemon.start()
        wait_for(lambda: load_bundle(path).cert_pem != first.cert_pem)
        renewed = load_bundle(path)
        assert renewed.expires_s is not None
        assert renewed.expires_s > time.time() + 23 * 3600
        cloud.lease()
        wait_for(lambda: cloud.rows() > 20 and moves(tmp_path))

        secrets = secrets_of(first, renewed) | secrets_of_authority(home)
        assert files_with(secrets, tmp_path) == {path, home / "authority/authority.json"}
        assert daemon.process is not None
        pids = tree_of(daemon.process.pid)
        assert len(pids) >= 3
        assert processes_with(secrets, [os.getpid(), *pids]) == set()

        cloud.authority.revoke("arm", kind="edge")
        wait_for(lambda: not moves(tmp_path))
        assert "this cell is not enrolled any more and halts; enrol it again" in daemon.said
        assert cloud.fleet.renew("run").cells == {}
        assert not any(secret.decode() in daemon.said for secret in secrets)
        assert verify(home) == []
    finally:
        daemon.kill()
        cloud.close()


def test_joining_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cloud = Plant(tmp_path)
    try:
        invitation = cloud.authority.invite("bob", kind="edge", addresses=[cloud.server.address])
        file, out = tmp_path / "bob.join.json", tmp_path / "bob.json"
        save_bundle(invitation, file)
        assert main(["join", str(file), "--out", str(out)]) == Exit.CLEAN
        said = capsys.readouterr().out
        assert said.startswith(f"{out}: edge:bob until 20")
        assert "next: user-rl-edge run name=bob bundle=" in said
        bundle = load_bundle(out)
        assert bundle.identity == "edge:bob"
        assert not any(secret.decode() in said for secret in secrets_of(bundle, invitation))
        assert main(["join", str(file), "--out", str(tmp_path / "again.json")]) == Exit.CRASH
        told = capsys.readouterr().err
        assert told.startswith("user-rl-edge: join:bob may not join: its join file was used already, by other keys")
        assert main(["join", str(tmp_path / "no.json")]) == Exit.CONFIG
    finally:
        cloud.close()
