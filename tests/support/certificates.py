"""Certificates, made with openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certified(NamedTuple):
    """The PEM files of one peer."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with its files in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory, self._name = directory, name
        self.certificate, self._key = directory / f"{name}-ca.pem", directory / f"{name}-ca.key"
        _openssl("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name} authority",
                 "-keyout", self._key, "-out", self.certificate)  # fmt: skip

    def issue(self, name: str, *, days: int = 2, hosts: str = "") -> Certified:
        """Issue a certificate with its key. It has expired already if ``days`` is negative. ``hosts``: for
        which it is, such as ``DNS:localhost,IP:127.0.0.1``."""
        base = self._directory / f"{self._name}-{name}"
        request, made = (
            base.with_suffix(".csr"),
            Certified(base.with_suffix(".pem"), base.with_suffix(".key")),
        )
        _openssl("req", *_KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        more: tuple[object, ...] = ()
        if hosts:
            extensions = base.with_suffix(".ext")
            extensions.write_text(f"subjectAltName={hosts}\n")
            more = ("-extfile", extensions)
        _openssl("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
                 "-CAcreateserial", "-days", days, "-out", made.certificate, *more)  # fmt: skip
        return made

    def revoke(self, *revoked: Certified) -> Path:
        """Write a certificate revocation list."""
        rules, listed = self._directory / f"{self._name}.cnf", self._directory / f"{self._name}.crl"
        (self._directory / f"{self._name}-index").touch()
        rules.write_text(
            f"[ca]\ndefault_ca=it\n[it]\ndatabase={self._directory}/{self._name}-index\n"
            "default_md=sha256\ndefault_crl_days=2\n"
        )
        words = ("ca", "-config", rules, "-cert", self.certificate, "-keyfile", self._key)
        for one in revoked:
            _openssl(*words, "-revoke", one.certificate)
        _openssl(*words, "-gencrl", "-out", listed)
        return listed


class Pki:
    """Authorities of the controller and of switches, and an untrusted one, with a certificate of each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.controllers, self.switches, self.others = (
            Authority(directory, name) for name in ("controllers", "switches", "others")
        )
        self.controller, self.switch = self.controllers.issue("controller"), self.switches.issue("switch")
        self.stranger = self.others.issue("stranger")
        self.expired = self.switches.issue("expired", days=-1)

    @property
    def options(self) -> str:
        """The URI options with the controller's files."""
        certificate, key = self.controller
        return f"&certificate={certificate}&key={key}&ca={self.switches.certificate}"


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
