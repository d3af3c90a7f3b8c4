"""Certificates that TLS accepts, enrolments that every process sees, files that nobody else may read."""

import re
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cloud.authority import Authority
from cloud.certificates import fingerprint
from user_rl.errors import ConfigError, StorageCorrupt

NOW_S = 1_800_000_000.0
ADDRESS = "127.0.0.1:1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority", wall=lambda: NOW_S)


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def test_the_server_and_its_clients_are_signed_by_the_one_ca(authority: Authority) -> None:
    server, client = authority.server_bundle, authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    ca = certificate(server.ca_pem)
    assert client.ca_pem == server.ca_pem
    for pem in (server.cert_pem, client.cert_pem, server.ca_pem):
        certificate(pem).verify_directly_issued_by(ca)
        key = certificate(pem).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"


def test_the_common_name_is_the_identity(authority: Authority) -> None:
    bundle = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    [name] = certificate(bundle.cert_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == bundle.identity == "edge:arm-1"
    assert bundle.fleet_address == ADDRESS


def test_the_server_answers_to_its_own_name_and_to_localhost(authority: Authority) -> None:
    extension = certificate(authority.server_bundle.cert_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert extension.value.get_values_for_type(x509.DNSName) == ["user-rl", "localhost"]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_a_clients_certificate_is_no_servers_and_no_authority(authority: Authority, tmp_path: Path) -> None:
    client, server = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS), authority.server_bundle
    for name, pem in (("ca", server.ca_pem), ("client", client.cert_pem), ("server", server.cert_pem)):
        (tmp_path / name).write_text(pem)
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", str(tmp_path / "ca"), "-attime", str(int(NOW_S))]

    def accepted(purpose: str, name: str) -> bool:
        argv = [*verify, "-purpose", purpose, str(tmp_path / name)]
        return subprocess.run(argv, check=False, capture_output=True, timeout=30).returncode == 0

    assert accepted("sslclient", "client")
    assert accepted("sslserver", "server")
    assert not accepted("sslserver", "client")
    assert not accepted("sslclient", "server")
    basic = certificate(client.cert_pem).extensions.get_extension_for_class(x509.BasicConstraints)
    assert not basic.value.ca


def test_certificates_hold_from_a_day_ago_for_ten_years_or_as_long_as_the_enrolment(authority: Authority) -> None:
    client = authority.mint("a", kind="run", fleet_address=ADDRESS, valid_days=3.0)
    for pem, days in ((authority.server_bundle.cert_pem, 3650), (client.cert_pem, 3)):
        assert certificate(pem).not_valid_before_utc.timestamp() == NOW_S - 86400
        assert certificate(pem).not_valid_after_utc.timestamp() == NOW_S + days * 86400
    assert (client.issued_s, client.expires_s) == (NOW_S, NOW_S + 3 * 86400)


def test_everything_is_the_same_after_a_restart(authority: Authority) -> None:
    bundle = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    again = Authority(authority.path)
    assert again.server_bundle == authority.server_bundle
    assert again.allowed() == {bundle.curve.public: "edge:arm-1"}


def test_its_files_are_readable_by_their_owner_only(authority: Authority) -> None:
    authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    for name in ("authority.json", "enrolled.json"):
        assert (authority.path / name).stat().st_mode & 0o777 == 0o600


def test_no_secret_of_a_client_stays_with_the_authority(authority: Authority) -> None:
    bundle = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    kept = "".join(path.read_text() for path in authority.path.iterdir())
    assert bundle.curve.secret not in kept
    assert bundle.key_pem.splitlines()[1] not in kept


@pytest.mark.slow
def test_a_new_name_is_seen_at_once_by_another_authority_on_the_folder(authority: Authority) -> None:
    other = Authority(authority.path)
    assert other.allowed() == {}
    for number in range(20):  # within one tick of the file system's clock
        bundle = authority.mint(f"arm-{number}", kind="edge", fleet_address=ADDRESS)
        assert other.allowed()[bundle.curve.public] == f"edge:arm-{number}"
        assert other.knows(bundle.identity, bundle.cert_pem.encode())


def test_a_revoked_name_is_not_allowed_anywhere(authority: Authority) -> None:
    other = Authority(authority.path)
    bundle = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    authority.mint("arm-2", kind="edge", fleet_address=ADDRESS)
    authority.revoke("arm-1", kind="edge")
    assert list(other.allowed().values()) == ["edge:arm-2"]
    assert not other.knows(bundle.identity, bundle.cert_pem.encode())
    with pytest.raises(ConfigError, match=re.escape("edge:arm-1 is not enrolled, allowed edge:arm-2; see its name")):
        authority.revoke("arm-1", kind="edge")


def test_minting_again_refuses_the_older_bundle(authority: Authority) -> None:
    old = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    new = authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    assert authority.allowed() == {new.curve.public: "edge:arm-1"}
    assert not authority.knows(old.identity, old.cert_pem.encode())
    assert authority.knows(new.identity, new.cert_pem.encode())


def test_a_certificate_counts_for_its_own_name_only(authority: Authority) -> None:
    authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    other = authority.mint("arm-2", kind="edge", fleet_address=ADDRESS)
    assert not authority.knows("edge:arm-1", other.cert_pem.encode())
    assert not authority.knows("edge:arm-3", other.cert_pem.encode())


@pytest.mark.parametrize("name", ["", "arm/1", "edge:arm", "-arm", "a" * 49, "arm 1", "årm", "arm\n"])
def test_a_name_that_would_break_an_identity_or_a_stream_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"the name {name!r} of a new edge, allowed ^[A-Za-z0-9]")):
        authority.mint(name, kind="edge", fleet_address=ADDRESS)
    assert authority.allowed() == {}


@pytest.mark.parametrize("name", ["authority.json", "enrolled.json"])
def test_a_damaged_file_is_named(authority: Authority, name: str) -> None:
    authority.mint("arm-1", kind="edge", fleet_address=ADDRESS)
    path = authority.path / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StorageCorrupt, match=rf"{re.escape(str(path))}: .*; restore it from a backup"):
        Authority(authority.path).allowed()


def test_an_authority_that_others_may_read_is_refused(authority: Authority) -> None:
    (authority.path / "authority.json").chmod(0o644)
    with pytest.raises(ConfigError, match="holds secrets and has mode 0644, allowed 0600"):
        Authority(authority.path)


@pytest.mark.slow
def test_processes_that_race_for_the_first_use_get_one_authority(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib, cloud.authority as a; x = a.Authority(pathlib.Path(sys.argv[1]))\n"
        "x.mint(sys.argv[2], kind='run', fleet_address=''); print(x.server_bundle.curve.public)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "authority")]
    racing = [subprocess.Popen([*argv, f"run-{i}"], stdout=subprocess.PIPE) for i in range(3)]
    said = {process.communicate(timeout=60)[0] for process in racing}
    assert len(said) == 1
    assert b"" not in said
    assert sorted(Authority(tmp_path / "authority").allowed().values()) == ["run:run-0", "run:run-1", "run:run-2"]


def test_threads_that_mint_at_once_lose_no_enrolment(authority: Authority) -> None:
    def mint(number: int) -> None:
        authority.mint(f"arm-{number}", kind="edge", fleet_address=ADDRESS)

    threads = [threading.Thread(target=mint, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(authority.allowed()) == 4


def test_a_fingerprint_is_that_of_the_der_form(authority: Authority) -> None:
    pem = authority.server_bundle.cert_pem
    assert fingerprint(pem.encode()) == fingerprint(ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(pem)).encode())
    assert len(fingerprint(pem.encode())) == 64
