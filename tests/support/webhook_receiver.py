"""A receiver of webhooks: a real HTTPS (or HTTP) server, which behaves as badly as it is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.certificates import Certified

SECRET = "0123456789abcdef-of-the-tests"


class Receiver:
    """``how``: what it does with requests: ``ok``, ``500``, ``redirect``, ``hang``, ``drip``, ``garbage`` or
    ``close``. ``events``: those that it has taken, in order; ``paths``: of all requests."""

    def __init__(self, certificate: Certified | None = None, port: int = 0) -> None:
        self.how = "ok"
        self.events: list[dict[str, Any]] = []
        self.documents: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.faults: list[str] = []
        #: called when a request has been taken, before it is answered
        self.taken: Callable[[], None] = lambda: None
        self.end = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 20

            def do_POST(self) -> None:
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.paths.append(self.path)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: object) -> None:
                pass  # clients that do not trust it, or that have gone

        self._server = Server(("127.0.0.1", port), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            # The handshake is the thread's of each connection.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            scheme = "https"
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://localhost:{self.port}/secret-path?token=secret-word"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        self.paths.append(request.path)
        how = self.how
        if how == "ok":
            self.check(request, body)
            document = json.loads(body)
            self.documents.append(document)
            self.events += document["events"]
            self.taken()
            request.send_response(204)
            request.end_headers()
        elif how == "500":
            request.send_error(500, "secret-answer")
        elif how == "redirect":
            request.send_response(307)
            request.send_header("location", f"{self.url.partition('/secret')[0]}/elsewhere")
            request.end_headers()
        elif how == "hang":
            self.end.wait(30)
        elif how == "drip":
            for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000:
                if self.end.wait(0.05):
                    break
                request.wfile.write(bytes((byte,)))
        elif how == "garbage":
            request.wfile.write(b"\x00\xff\x00 no HTTP at all\r\n\r\n")
        request.close_connection = True

    def check(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """As docs/events.md tells receivers to."""
        timestamp = request.headers["netvirt-timestamp"]
        signed = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest("sha256=" + signed, request.headers["netvirt-signature"]):
            self.faults.append("signature")
        if abs(time.time() - int(timestamp)) > 60:
            self.faults.append("timestamp")
        if request.headers["content-type"] != "application/json":
            self.faults.append("content-type")

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def close(self) -> None:
        self.end.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def secret_file(directory: Path) -> Path:
    """A file with the secret, as it has to be."""
    file = directory / "hook.secret"
    file.touch(0o600)
    file.write_text(SECRET + "\n")
    return file
