"""What is wrong with the certificates of listeners, before anybody connects."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest

from libnetvirt.configuration import load
from libnetvirt.configuration.certificates import expiry
from libnetvirt.errors import InvalidDescription
from tests.support.certificates import Authority, Certified

Files = tuple[Authority, Certified, Certified]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    authority = Authority(tmp_path_factory.mktemp("certificates"), "ours")
    return authority, authority.issue("server"), authority.issue("old", days=-1)


def told(tmp_path: Path, **keys: object) -> list[str]:
    """The faults of a listener, without the file's name."""
    file = tmp_path / "netvirtd.toml"
    lines = [f'{key} = "{value}"' for key, value in keys.items()]
    file.write_text(
        '[connections.core]\nuri = "test:///"\n[[listeners]]\nkind = "tls"\naddress = "127.0.0.1:8443"\n'
        + "\n".join(lines)
        + "\n"
    )
    try:
        load(file)
    except InvalidDescription as error:
        # What concerns only people and tokens works with any certificate.
        return [str(fault).removeprefix(f"{file}:") for fault in error.faults]
    return []


def test_right_files_have_no_fault(made: Files, tmp_path: Path) -> None:
    authority, server, _ = made
    assert told(tmp_path, certificate=server.certificate, key=server.key) == []
    assert told(tmp_path, certificate=server.certificate, key=server.key, ca=authority.certificate) == []


def test_each_wrong_file_is_one_clear_fault(made: Files, tmp_path: Path) -> None:
    _, server, old = made
    certificate, key = server
    assert told(tmp_path, certificate=certificate) == ["3: listeners[1].key: is missing: add it"]
    assert told(tmp_path, certificate="/none.pem", key=key) == [
        "6: listeners[1].certificate: there is no file /none.pem: write it, or name another"
    ]
    (fault,) = told(tmp_path, certificate=old.certificate, key=old.key)
    assert fault.startswith(
        f"6: listeners[1].certificate: the certificate in {old.certificate} has expired on 20"
    )
    assert fault.endswith("UTC: renew it")
    (fault,) = told(tmp_path, certificate=certificate, key=old.key)
    assert f"{old.key} is not the key of the certificate in {certificate}" in fault
    (fault,) = told(tmp_path, certificate=key, key=key)
    assert "has no certificate in PEM" in fault
    private = tmp_path / "no.key"
    shutil.copy(certificate, private)
    private.chmod(0o600)
    (fault,) = told(tmp_path, certificate=certificate, key=private)
    assert "has no private key in PEM" in fault
    (fault,) = told(tmp_path, certificate=certificate, key=key, ca=key)
    assert "has no certificate of an authority in PEM" in fault
    assert len(told(tmp_path, certificate="/none", key="/none", ca="/none")) == 3


def test_keys_that_everybody_reads_or_that_have_a_passphrase_are_refused(made: Files, tmp_path: Path) -> None:
    _, server, _ = made
    loose, locked = tmp_path / "loose.key", tmp_path / "locked.key"
    shutil.copy(server.key, loose)
    loose.chmod(0o644)
    (fault,) = told(tmp_path, certificate=server.certificate, key=loose)
    assert fault.endswith(f"can be read or changed by everybody: chmod o= {loose}")
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", server.key, "-out", locked, "-passout", "pass:x"], check=True
    )
    (fault,) = told(tmp_path, certificate=server.certificate, key=locked)
    assert "has a passphrase, which netvirtd cannot ask for" in fault


def test_the_validity_is_that_which_openssl_reads(made: Files) -> None:
    for certified in made[1:]:
        said = subprocess.run(
            ["openssl", "x509", "-in", certified.certificate, "-noout", "-dates", "-dateopt", "iso_8601"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        wanted = [
            datetime.datetime.fromisoformat(line.partition("=")[2].replace("Z", "+00:00")).timestamp()
            for line in said.splitlines()
        ]
        assert expiry(certified.certificate.read_text()) == tuple(wanted)


def test_what_is_no_certificate_has_no_validity(made: Files) -> None:
    text = made[1].certificate.read_text()
    body = text.splitlines()[1:-1]
    for end in range(0, len("".join(body)), 40):
        short = "\n".join([text.splitlines()[0], "".join(body)[:end], "-----END CERTIFICATE-----"])
        found = expiry(short)
        assert found is None or found[0] < found[1]
    assert expiry("") is None
