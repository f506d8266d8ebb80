"""OpenFlow over TLS: the contents of certificate files, and the meaning of failed handshakes."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from libnetvirt.drivers.openflow.options import OpenFlowSettings
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.tls import Credentials, Identity, refusal
from libnetvirt.errors import InvalidURI
from libnetvirt.uri import URI
from tests.support.certificates import Pki


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def _identity(pki: Pki, **changed: object) -> Identity:
    files = {
        "certificate": pki.controller.certificate,
        "key": pki.controller.key,
        "ca": pki.switches.certificate,
        **changed,
    }
    return Identity(**{name: str(file) for name, file in files.items()})


def test_both_ends_are_verified_with_a_recent_version(pki: Pki) -> None:
    context = _identity(pki).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("option", "file", "said"),
    [
        ("certificate", "none.pem", "none.pem: No such file"),
        ("key", "none.pem", "none.pem: No such file"),
        ("ca", "none.pem", "none.pem: No such file"),
        ("ca", ".", "Is a directory"),
        ("certificate", "text", "text is not a PEM file with a CERTIFICATE"),
        ("key", "text", "text is not a PEM file with a PRIVATE KEY"),
        ("ca", "text", "text is not a PEM file with a CERTIFICATE"),
        ("certificate", "damaged", "damaged: its CERTIFICATE cannot be read"),
        ("ca", "damaged", "damaged: its CERTIFICATE cannot be read"),
        ("key", "damaged.key", "damaged.key: its PRIVATE KEY cannot be read"),
        ("certificate", "controllers-controller.key", "is not a PEM file with a CERTIFICATE"),
        ("key", "controllers-controller.pem", "is not a PEM file with a PRIVATE KEY"),
        ("key", "switches-switch.key", "is not the private key of certificate="),
        ("ca", "switches-switch.pem", "there is no certificate of an authority"),
        ("key", "locked.key", "protected by a pass phrase"),
        ("crl", "none.pem", "none.pem: No such file"),
        ("crl", "text", "text is not a PEM file with a X509 CRL"),
        ("crl", "damaged.crl", "damaged.crl: its X509 CRL cannot be read"),
    ],
)
def test_a_faulty_file_is_named(pki: Pki, option: str, file: str, said: str) -> None:
    (pki.directory / "text").write_text("this is no certificate")
    for name, what in (
        ("damaged", "CERTIFICATE"),
        ("damaged.key", "PRIVATE KEY"),
        ("damaged.crl", "X509 CRL"),
    ):
        (pki.directory / name).write_text(f"-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n")
    subprocess.run(
        ["openssl", "ec", "-in", pki.controller.key, "-out", pki.directory / "locked.key", "-aes128",
         "-passout", "pass:secret"], check=True, capture_output=True,
    )  # fmt: skip
    with pytest.raises(InvalidURI) as caught:
        _identity(pki, **{option: pki.directory / file}).context()
    text = str(caught.value)
    assert said in text
    assert "\n" not in text


def test_files_are_read_again_when_they_have_changed(pki: Pki, tmp_path: Path) -> None:
    reports: list[str] = []
    for name, file in (("certificate", pki.controller.certificate), ("key", pki.controller.key)):
        shutil.copy(file, tmp_path / name)
    used = Credentials(
        _identity(pki, certificate=tmp_path / "certificate", key=tmp_path / "key"), reports.append
    )
    first = used.context()
    assert used.context() is first
    renewed = pki.controllers.issue("renewed")
    shutil.copy(renewed.certificate, tmp_path / "certificate")
    # Between the two files they do not fit together.
    assert used.context() is first
    assert used.context() is first
    ((report),) = reports
    assert "is not the private key of" in report
    assert report.endswith("The previous certificates stay in use")
    (tmp_path / "key").unlink()
    assert used.context() is first
    shutil.copy(renewed.key, tmp_path / "key")
    assert used.context() is not first
    assert len(reports) == 2


@pytest.mark.parametrize(
    "given", ["certificate=a", "key=a", "ca=a&key=b", "certificate=a&key=b&ca=", "crl=a"]
)
def test_certificates_require_a_key_and_an_authority(given: str) -> None:
    with pytest.raises(InvalidURI, match=r"without .*: TLS needs certificate=FILE, key=FILE and ca=FILE"):
        OpenFlowSettings.from_uri(URI.parse(f"openflow:///?{given}")).identity()
    assert OpenFlowSettings.from_uri(URI.parse("openflow:///")).identity() is None


def test_with_certificates_listen_addresses_default_to_tls() -> None:
    assert Listen.parse("127.0.0.1:6653", tls=True).secure
    assert Listen.parse("ssl:[::1]:6653", tls=True) == Listen("::1", 6653, secure=True)
    assert not Listen.parse("tcp:127.0.0.1:6653", tls=True).secure
    assert not Listen.parse("tcp:127.0.0.1:6653").secure
    assert not Listen.parse("unix:/run/of.sock", tls=True).secure
    with pytest.raises(InvalidURI, match="certificate=FILE"):
        Listen.parse("ssl:127.0.0.1:6653")


def test_a_silent_peer_is_distinguished_from_one_that_disconnects() -> None:
    assert "did not finish" in refusal(ConnectionAbortedError())
    assert "aborted" in refusal(ConnectionResetError())
