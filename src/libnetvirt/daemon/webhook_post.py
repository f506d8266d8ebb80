"""One delivery to a webhook: signed, verified, and with one time limit for all of it.

Deliveries run in an event loop of their own, in a thread of their own: TLS takes milliseconds, in which the
loop that serves switches could not do anything else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import ssl
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import h11

from libnetvirt import __version__
from libnetvirt.configuration.webhooks import Webhook, context_of, secret_of

T = TypeVar("T")

_READ: Final = 1 << 16
_contexts: dict[tuple[str | None, int], ssl.SSLContext] = {}
#: Seconds that the thread has to end.
_END: Final = 5.0


class DeliveryFailed(Exception):
    """A receiver did not take what was sent. The text has no secret: not the path, nor what it answered."""


class SideLoop:
    """An event loop in a thread of its own, from the first use until :meth:`close`."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there; if the caller is cancelled, it is, too."""
        if self._loop is None:
            loop = self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._serve, args=(loop,), name="netvirt-webhooks", daemon=True
            )
            self._thread.start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def close(self) -> None:
        """End the thread; waits shortly. May be called twice."""
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_END)
            self._loop = self._thread = None

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0.01))
            loop.close()


def place(hook: Webhook) -> str:
    """Where a hook sends to, as it may be told: the rest of the URL may be a secret."""
    parts = urlsplit(hook.url)
    return f"{parts.scheme}://{parts.netloc}"


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """What the header ``Netvirt-Signature`` has."""
    return "sha256=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


async def post(hook: Webhook, body: bytes) -> None:
    """Send a document of JSON. Returns when the receiver has answered with a status of 200 to 299. Raises
    DeliveryFailed."""
    try:
        async with asyncio.timeout(hook.timeout):
            status = await _status(hook, body)
    except TimeoutError:
        raise DeliveryFailed(f"no answer within {hook.timeout} s") from None
    except ssl.SSLCertVerificationError as error:
        raise DeliveryFailed(f"its certificate is not accepted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise DeliveryFailed(f"TLS failed: {error.reason}") from None
    except OSError as error:
        raise DeliveryFailed(f"cannot connect, or the connection broke: {error.strerror or error}") from None
    except h11.RemoteProtocolError:
        raise DeliveryFailed("its answer is not HTTP") from None
    except ValueError as error:
        raise DeliveryFailed(str(error)) from None
    if 300 <= status < 400:
        raise DeliveryFailed(f"answered {status}: redirections are not followed")
    if not 200 <= status < 300:
        raise DeliveryFailed(f"answered {status}")


def _context(hook: Webhook) -> ssl.SSLContext | None:
    """As :func:`context_of`, made again only if the file has changed: a system has many authorities."""
    changed = Path(hook.ca).stat().st_mtime_ns if hook.ca is not None else 0
    key = (hook.ca, changed)
    if key not in _contexts and (context := context_of(hook)) is not None:
        for old in [one for one in _contexts if one[0] == hook.ca]:
            del _contexts[old]
        _contexts[key] = context
    return _contexts.get(key) if hook.url.startswith("https:") else None


async def _status(hook: Webhook, body: bytes) -> int:
    parts = urlsplit(hook.url)
    secret, context = secret_of(hook.secret_file), _context(hook)
    timestamp = str(int(time.time()))
    reader, writer = await asyncio.open_connection(
        parts.hostname, parts.port or (443 if context else 80), ssl=context
    )
    try:
        if context is None and not ipaddress.ip_address(writer.get_extra_info("peername")[0]).is_loopback:
            raise ValueError("its name is not an address of this machine")
        http = h11.Connection(h11.CLIENT)
        headers = [
            ("host", parts.netloc),
            ("content-type", "application/json"),
            ("content-length", str(len(body))),
            ("connection", "close"),
            ("user-agent", f"netvirtd/{__version__}"),
            ("netvirt-webhook", hook.name),
            ("netvirt-timestamp", timestamp),
            ("netvirt-signature", signature(secret, timestamp, body)),
        ]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        request = h11.Request(method="POST", target=target, headers=headers)
        writer.write((http.send(request) or b"") + body)
        http.send(h11.Data(data=body))
        http.send(h11.EndOfMessage())
        with suppress(ConnectionError):
            # It may have answered before it has read all.
            await writer.drain()
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                return event.status_code
            if event is h11.NEED_DATA:
                if not (piece := await reader.read(_READ)):
                    raise ValueError("it closed the connection without an answer")
                http.receive_data(piece)
    finally:
        writer.transport.abort()
