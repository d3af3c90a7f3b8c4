"""Bundles survive their file, and secrets stay where they belong."""

import os
import re
from pathlib import Path

import msgspec
import pytest

from user_rl.errors import ConfigError
from user_rl.trust import Bundle, CurveKeys, load_bundle, new_curve_keys, save_bundle

CURVE, SERVER = new_curve_keys(), new_curve_keys()


def make_bundle(**changes: object) -> Bundle:
    bundle = Bundle(
        kind="edge", name="arm-1", fleet_address="127.0.0.1:7400", server_name="user-rl", ca_pem="CA", cert_pem="CERT",
        key_pem="PRIVATE", curve=CURVE, server_curve_public=SERVER.public,
    )  # fmt: skip
    return msgspec.structs.replace(bundle, **changes)


def test_a_bundle_comes_back_from_its_file(tmp_path: Path) -> None:
    save_bundle(make_bundle(), tmp_path / "new" / "bundle.json")
    assert load_bundle(tmp_path / "new" / "bundle.json") == make_bundle()


def test_a_bundle_is_readable_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        save_bundle(make_bundle(), tmp_path / "b.json")
    finally:
        os.umask(old)
    assert (tmp_path / "b.json").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["b.json"]


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o601])
def test_a_bundle_that_others_may_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "b.json"
    save_bundle(make_bundle(), path)
    path.chmod(mode)
    message = f"{path} holds secrets and has mode {mode:04o}, allowed 0600; run: chmod 600 {path}"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_bundle(path)


def test_a_missing_bundle_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    message = f"{path}: No such file or directory; give the path of a file that this user may read"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_bundle(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{", "["),
        ('"edge"', '"robot"'),
        ('"arm-1"', '"arm/1"'),
        ('"arm-1"', '""'),
        (f'"{CURVE.public}"', '"short"'),
        ('"kind"', '"extra": 1, "kind"'),
        ('"ca_pem": "CA",', ""),
    ],
    ids=["list", "kind", "separator", "no_name", "short_key", "extra", "missing"],  # keys are new in every process
)
def test_a_malformed_bundle_is_refused_by_its_path(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "b.json"
    save_bundle(make_bundle(), path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=rf"bundle {re.escape(str(path))}: .*; enrol this name again"):
        load_bundle(path)


def test_secrets_never_appear_in_a_repr() -> None:
    for text in (repr(make_bundle()), str(make_bundle()), f"{[make_bundle()]}", repr(CURVE)):
        assert CURVE.secret not in text
        assert "PRIVATE" not in text
    assert repr(CURVE) == f"CurveKeys(public={CURVE.public!r})"


def test_an_identity_is_kind_and_name_and_survives_a_move() -> None:
    moved = make_bundle().at("10.0.0.1:1")
    assert moved.identity == "edge:arm-1"
    assert moved == make_bundle(fleet_address="10.0.0.1:1")


def test_each_key_pair_is_new_and_z85() -> None:
    assert CURVE != SERVER
    assert len(CURVE.public) == len(CURVE.secret) == 40
    assert CurveKeys(CURVE.public, CURVE.secret) == CURVE
