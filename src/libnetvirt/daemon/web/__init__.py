"""The web page: files that a listener on the network serves below ``/ui/``.

Plain HTML, CSS and JavaScript modules in ``files``: nothing is built, nothing comes from another server. The
page is a client of the interface ``/v1`` like any other, with a token: the files themselves tell nothing of
networks, so that anybody may read them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HEADERS", "PATH", "Page", "files"]

#: where the page is
PATH: Final = "/ui/"

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

#: Sent with each file. No script but ours, none in the page's text, no way to make text into markup
#: (Trusted Types), no other server, no frame around it.
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Asked for again each time, answered with 304: a browser must not mix files of two versions.
    "cache-control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    kind: str
    etag: str


@cache
def files() -> Mapping[str, _File]:
    """The files of the page by their path below :data:`PATH`; ``index.html`` is also the empty path.

    Reads them from the package, once.
    """
    found = {}
    for entry in resources.files(__name__).joinpath("files").iterdir():
        if kind := _TYPES.get(entry.name.rpartition(".")[2]):
            content = entry.read_bytes()
            found[entry.name] = _File(content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
    return {"": found["index.html"], **found}


class Page:
    """The application of a listener, with the page in front of it while it is ``wanted``."""

    def __init__(self, app: ASGIApp, wanted: Callable[[], bool]) -> None:
        self._app = app
        self._wanted = wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file, or hand the request on."""
        answer = _answer(scope) if self._wanted() and scope["method"] in ("GET", "HEAD") else None
        await (answer or self._app)(scope, receive, send)


def _answer(scope: Scope) -> Response | None:
    path = scope["path"]
    if path in ("/", PATH.rstrip("/")):
        return RedirectResponse(PATH, status_code=307, headers=dict(HEADERS))
    # Only what is in the table is served: there is no path into the file system.
    found = files().get(path.removeprefix(PATH)) if path.startswith(PATH) else None
    if found is None:
        return None
    headers = {**HEADERS, "etag": found.etag, "content-type": found.kind}
    if Headers(scope=scope).get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers)
