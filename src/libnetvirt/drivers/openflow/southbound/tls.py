"""OpenFlow over TLS (OpenFlow 1.3.5, section 6.3.6): the controller's identity, and the switches that it
accepts.

Both ends present a certificate. The handshake of a switch whose certificate is not signed by the configured
authority fails, and none of its bytes reach the codec.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from libnetvirt.errors import InvalidURI

#: seconds that a peer has to complete the handshake, and to answer the shutdown of a connection
HANDSHAKE_TIMEOUT = 10.0
SHUTDOWN_TIMEOUT = 3.0
#: concurrent handshakes; beyond that, the oldest one is cancelled
HANDSHAKE_LIMIT = 256
#: the URI options that name files; the last one is optional
FILES = ("certificate", "key", "ca", "crl")
#: reasons that OpenSSL gives for a failed handshake, and what they mean
REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it presented no certificate: give it one with 'ovs-vsctl set-ssl'",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: use ssl:ADDRESS:PORT in the switch, not tcp:",
    "HTTP_REQUEST": "it is not a switch: it speaks HTTP",
    "UNSUPPORTED_PROTOCOL": "it speaks TLS 1.1 or older: version 1.2 or later is needed",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority that signed the controller's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the controller's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it rejects the controller's certificate as expired",
}
_HOW = "docs/switches.md tells how to make certificates"


@dataclass(frozen=True, slots=True)
class Identity:
    """The controller's identity: PEM files with its certificate, its private key, the certificate of the
    authority that signs the switches' certificates and, optionally, the list of certificates that the
    authority has revoked."""

    certificate: str
    key: str
    ca: str
    crl: str = ""

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self | None:
        """Build an identity from the options :data:`FILES` that were given, None from none. Raises InvalidURI
        if some are missing."""
        missing = [name for name in ("certificate", "key", "ca") if not given.get(name)]
        if given and missing:
            raise InvalidURI(
                f"option {' and '.join(given)} without {' and '.join(missing)}: TLS needs certificate=FILE, "
                f"key=FILE and ca=FILE; {_HOW}"
            )
        return cls(**given) if given else None

    def context(self) -> ssl.SSLContext:
        """A TLS context from the files. Blocks while they are read. Raises InvalidURI, which names the file
        at fault."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        _check(self.ca, "ca", lambda: context.load_verify_locations(self.ca), "CERTIFICATE")
        if not context.get_ca_certs():
            raise InvalidURI(
                f"ca={self.ca}: there is no certificate of an authority in it: give the file of the "
                f"authority that signs the switches' certificates; {_HOW}"
            )
        if self.crl:
            _check(self.crl, "crl", lambda: context.load_verify_locations(self.crl), "X509 CRL")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        _check(self.certificate, "certificate", self._own_certificate, "CERTIFICATE")
        _check(self.key, "key", lambda: self._own_key(context), "PRIVATE KEY")
        return context

    def versions(self) -> list[tuple[int, ...] | None]:
        """Inode, size and time of modification of each file (None: it does not exist), to see whether any has
        changed."""
        return [_version(file) for file in (self.certificate, self.key, self.ca, self.crl) if file]

    def _own_certificate(self) -> None:
        # Loaded by itself first: errors of load_cert_chain() do not tell the certificate from the key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(self.certificate)

    def _own_key(self, context: ssl.SSLContext) -> None:
        try:
            context.load_cert_chain(self.certificate, self.key, _no_password)
        except ssl.SSLError as error:
            if error.reason != "KEY_VALUES_MISMATCH":
                raise
            raise InvalidURI(
                f"key={self.key} is not the private key of certificate={self.certificate}: give the one that "
                "the certificate was requested with"
            ) from None


class Credentials:
    """An identity in use. When its files have changed, they are read again at the next handshake. If one is
    invalid, ``report`` is called with the reason, and the previous content stays in use.

    Raises InvalidURI if a file is invalid at first.
    """

    def __init__(self, identity: Identity, report: Callable[[str], None]) -> None:
        self._identity = identity
        self._report = report
        self._versions = identity.versions()
        self._context = identity.context()

    def context(self) -> ssl.SSLContext:
        """The TLS context for a handshake. Blocks while files are read, if they have changed."""
        versions = self._identity.versions()
        if versions != self._versions:
            self._versions = versions
            try:
                self._context = self._identity.context()
            except InvalidURI as error:
                self._report(f"{error}. The previous certificates stay in use")
        return self._context


def _version(file: str) -> tuple[int, ...] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _check(file: str, option: str, load: Callable[[], None], what: str) -> None:
    """Load a file, and explain any failure. Raises InvalidURI."""
    try:
        if f"{what}-----" not in Path(file).read_text("ascii", "replace"):
            raise InvalidURI(f"{option}={file} is not a PEM file with a {what}: {_HOW}")
        load()
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        raise InvalidURI(f"{option}={file}: its {what} cannot be read ({reason}): {_HOW}") from None
    except OSError as error:
        raise InvalidURI(f"{option}={file}: {error.strerror or error}: {_HOW}") from None


class _Encrypted(InvalidURI):
    def __init__(self) -> None:
        super().__init__(
            "the private key is protected by a pass phrase, which cannot be entered here: use a key without "
            "one, in a file that only the controller's user may read"
        )


def _no_password() -> str:
    raise _Encrypted


def refusal(error: BaseException) -> str:
    """Why a handshake failed, for operators."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = error.reason or "it ended the handshake"
        return REASONS.get(reason, f"the TLS handshake failed: {reason.replace('_', ' ').lower()}")
    if isinstance(error, ConnectionAbortedError | TimeoutError):
        return f"it did not finish the TLS handshake within {HANDSHAKE_TIMEOUT:g} s"
    return "it aborted the TLS handshake: it may not trust the controller's certificate"


class Handshakes:
    """The TLS handshakes of accepted connections. Those that succeed get a session.

    asyncio's own server does not tell why a handshake failed.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        session: Callable[[], asyncio.Protocol],
        refused: Callable[[str, str], None],
    ) -> None:
        self._context = context
        self._session = session
        self._refused = refused
        self._shaking: dict[asyncio.Task[None], None] = {}

    async def begin(self, peer: socket.socket, address: Any) -> None:
        """Begin the handshake of a connection, which goes on in a task of its own."""
        if len(self._shaking) >= HANDSHAKE_LIMIT:
            # Not counted any more: its end may come later than the next connection.
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            oldest.cancel()
        host, port, *_ = address
        task = asyncio.get_running_loop().create_task(self._shake(peer, f"{host}:{port}"))
        self._shaking[task] = None
        task.add_done_callback(lambda done: self._shaking.pop(done, None))

    def cancel(self) -> None:
        """Cancel all handshakes. Connections stay open."""
        for task in self._shaking:
            task.cancel()

    async def _shake(self, peer: socket.socket, address: str) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._session,
                peer,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT,
            )
        except OSError as error:
            peer.close()
            self._refused(address, refusal(error))
        except BaseException:
            peer.close()
            raise
