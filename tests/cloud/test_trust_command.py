"""`user-rl enroll`, `revoke`, `enrolled` and `audit`, as a person types them."""

import json
import time
from pathlib import Path

import msgspec
import pytest

from cloud.authority import Authority
from cloud.main import main
from user_rl.joining import make_request, new_tls_key
from user_rl.trust import load_bundle, new_curve_keys


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(home: Path, *argv: str) -> int:
    return main([*argv, "--home", str(home)])


def enroll(home: Path, name: str, *argv: str) -> int:
    return run(home, "enroll", name, "--fleet", "box:50051", "--out", str(home.parent / f"{name}.join.json"), *argv)


def test_a_join_file_has_every_address_and_the_times_that_were_asked_for(home: Path) -> None:
    assert enroll(home, "arm", "--fleet", "box.lan:50051", "--hours", "2", "--valid-days", "30") == 0
    bundle = load_bundle(home.parent / "arm.join.json")
    assert (bundle.fleet_address, bundle.more_addresses) == ("box:50051", ("box.lan:50051",))
    assert bundle.expires_s == pytest.approx(time.time() + 7200, abs=60)
    keys, key_pem = new_curve_keys(), new_tls_key()
    authority = Authority(home / "authority")
    request = make_request("join:arm", key_pem, keys.public)
    issued = authority.join("join:arm", bundle.cert_pem.encode(), request)
    assert issued.expires_s == pytest.approx(time.time() + 30 * 86400, abs=60)


@pytest.mark.parametrize("argv", [["--hours", "0"], ["--valid-days", "-1"]])
def test_a_time_that_is_none_is_refused(home: Path, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert enroll(home, "arm", *argv) == 1
    assert "allowed more than 0; leave them out" in capsys.readouterr().err


def test_revoking_needs_the_kind_only_where_there_are_several(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = Authority(home / "authority")
    for kind in ("edge", "labeller"):
        authority.mint("arm", kind=kind, fleet_address="")
    assert run(home, "revoke", "arm") == 1
    assert "arm is enrolled as edge and labeller, allowed one kind; give --kind" in capsys.readouterr().err
    assert run(home, "revoke", "arm", "--kind", "labeller") == 0
    assert capsys.readouterr().out == "labeller:arm is let in nowhere any more\n"
    assert run(home, "revoke", "arm") == 0
    assert authority.allowed() == {}
    assert run(home, "revoke", "arm") == 1
    assert "arm is enrolled as nothing" in capsys.readouterr().err


def test_a_join_file_is_revoked_by_its_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enroll(home, "arm", "--kind", "inference")
    capsys.readouterr()
    assert run(home, "revoke", "arm") == 0
    assert capsys.readouterr().out.startswith("inference:arm is let in nowhere")
    assert Authority(home / "authority").enrolled() == {}


def test_who_is_enrolled_until_when_and_last_seen(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "enrolled") == 0
    assert "nobody is enrolled" in capsys.readouterr().out
    old = Authority(home / "authority", wall=lambda: time.time() - 10 * 86400)
    old.mint("late", kind="edge", fleet_address="", valid_days=1.0)
    Authority(home / "authority").mint("arm", kind="run", fleet_address="")
    enroll(home, "new")
    seen = home / "fleet/seen.json"
    seen.parent.mkdir()
    seen.write_bytes(msgspec.json.encode({"run:arm": 1_800_000_000.0}))
    capsys.readouterr()
    assert run(home, "enrolled", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["kind"], row["name"], row["state"], row["seen_s"]) for row in rows] == [
        ("edge", "late", "expired", None), ("join", "new", "join file, of edge", None),
        ("run", "arm", "enrolled", 1_800_000_000.0),
    ]  # fmt: skip
    assert rows[2]["expires_s"] == pytest.approx(time.time() + 365 * 86400, abs=60)
    assert run(home, "enrolled") == 0
    said = capsys.readouterr().out
    assert "(ended)" in said
    assert "2027-01-15 08:00Z" in said


def test_the_audit_log_is_shown_and_verified(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "audit") == 0
    assert "nothing has happened yet" in capsys.readouterr().out
    for name in ("a", "b", "c"):
        enroll(home, name)
    run(home, "revoke", "a")
    capsys.readouterr()
    assert run(home, "audit", "--last", "2", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["what"], line["about"], line["n"]) for line in lines] == [
        ("invite", "edge:c", 3), ("revoke", "edge:a", 4),
    ]  # fmt: skip
    assert run(home, "audit") == 0
    assert "revoke edge:a: done" in capsys.readouterr().out
    assert run(home, "audit", "--verify") == 0
    assert capsys.readouterr().out == "every line follows the one before it\n"
    path = home / "audit.jsonl"
    path.write_bytes(path.read_bytes().replace(b"edge:b", b"edge:x"))
    assert run(home, "audit", "--verify") == 1
    assert "one was changed or removed" in capsys.readouterr().out
