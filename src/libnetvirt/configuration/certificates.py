"""The certificates of listeners: read, and what is wrong with them, before anybody connects."""

from __future__ import annotations

import datetime
import os
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libnetvirt.configuration.network_listeners import TlsListener
from libnetvirt.errors import ConnectionFailed

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME: Final = 0x17


def server_context(listener: TlsListener) -> ssl.SSLContext:
    """What a listener presents and requires. Raises ConnectionFailed with everything that is wrong."""
    wrong = [text for _, text in faults_of(listener)]
    if wrong:
        raise ConnectionFailed(f"cannot listen on {listener.address}: {'; '.join(wrong)}")
    try:
        context = _context(listener)
        if listener.ca is not None:
            context.load_verify_locations(listener.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # they have changed since
        raise ConnectionFailed(f"cannot listen on {listener.address}: {error}") from None
    return context


def faults_of(listener: TlsListener) -> Iterator[tuple[str, str]]:
    """(key, what is wrong with its file, and the remedy) of a listener."""
    wrong = dict(_unreadable(listener))
    yield from wrong.items()
    if "certificate" not in wrong:
        text = Path(listener.certificate).read_text(errors="replace")
        if fault := _certificate_fault(listener.certificate, text):
            wrong["certificate"] = fault
            yield "certificate", fault
    if "ca" not in wrong and listener.ca is not None:
        try:
            ssl.create_default_context(cafile=listener.ca)
        except ssl.SSLError:
            yield "ca", f"{listener.ca} has no certificate of an authority in PEM: name the file that has"
    if not wrong.keys() & {"certificate", "key"}:
        try:
            _context(listener)
        except ssl.SSLError as error:
            yield "key", _key_fault(listener, error)


def expiry(pem: str) -> tuple[float, float] | None:
    """From when until when the first certificate of a text is valid, in seconds since the epoch; None if it
    is not one."""
    found = _CERTIFICATE.search(pem)
    if not found:
        return None
    try:
        return _validity(ssl.PEM_cert_to_DER_cert(found.group()))
    except (ValueError, IndexError):
        return None


def _unreadable(listener: TlsListener) -> Iterator[tuple[str, str]]:
    for key in ("certificate", "key", "ca"):
        name = getattr(listener, key)
        if name is None:
            continue
        try:
            with Path(name).open("rb") as stream:
                stream.read(1)
                mode = os.fstat(stream.fileno()).st_mode
        except FileNotFoundError:
            yield key, f"there is no file {name}: write it, or name another"
        except OSError as error:
            yield (
                key,
                f"{name} cannot be read ({error.strerror}): let the user read it who runs netvirtd",
            )
        else:
            if key == "key" and mode & 0o007:
                yield key, f"{name} can be read or changed by everybody: chmod o= {name}"


def _certificate_fault(name: str, text: str) -> str:
    valid = expiry(text)
    if valid is None:
        return f"{name} has no certificate in PEM: name the file that begins with BEGIN CERTIFICATE"
    if time.time() > valid[1]:
        return f"the certificate in {name} has expired on {_day(valid[1])}: renew it"
    if time.time() < valid[0]:
        return f"the certificate in {name} is valid from {_day(valid[0])} on: check the clock, or renew it"
    return ""


def _key_fault(listener: TlsListener, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"{listener.key} is not the key of the certificate in {listener.certificate}: name the one "
            "that is"
        )
    if "ENCRYPTED" in Path(listener.key).read_text(errors="replace"):
        return (
            f"the key in {listener.key} has a passphrase, which netvirtd cannot ask for: store it without, "
            "readable only by the user who runs netvirtd"
        )
    return f"{listener.key} has no private key in PEM: name the file that begins with BEGIN PRIVATE KEY"


def _context(listener: TlsListener) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # With TLS 1.2, a client could have the server compute handshakes without end.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Without it, OpenSSL would ask on the terminal for the passphrase of a key.
    context.load_cert_chain(listener.certificate, listener.key, password=lambda: "")
    return context


def _day(when: float) -> str:
    return f"{datetime.datetime.fromtimestamp(when, datetime.UTC):%Y-%m-%d %H:%M} UTC"


def _validity(der: bytes) -> tuple[float, float]:
    """The field ``validity`` of a certificate (RFC 5280, section 4.1). Raises ValueError or IndexError."""
    at, _ = _inside(der, 0)  # Certificate
    at, _ = _inside(der, at)  # tbsCertificate
    if der[at] == 0xA0:  # version
        at = _after(der, at)
    for _ in ("serialNumber", "signature", "issuer"):
        at = _after(der, at)
    first, _ = _inside(der, at)
    second = _after(der, first)
    return _time(der, first), _time(der, second)


def _inside(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of an element begins and ends."""
    length, begin = der[at + 1], at + 2
    if length & 0x80:
        more = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + more]), begin + more
    return begin, begin + length


def _after(der: bytes, at: int) -> int:
    return _inside(der, at)[1]


def _time(der: bytes, at: int) -> float:
    begin, end = _inside(der, at)
    form = "%y%m%d%H%M%SZ" if der[at] == _UTC_TIME else "%Y%m%d%H%M%SZ"
    found = datetime.datetime.strptime(der[begin:end].decode(), form)
    return found.replace(tzinfo=datetime.UTC).timestamp()
