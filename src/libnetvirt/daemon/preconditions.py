"""Conditional requests (RFC 9110, section 13): changes only of what the client has seen.

The ETag of a network is its :attr:`~libnetvirt.model.VirtualNetwork.etag` in quotes. Reading a network gives
it; a request with ``If-Match`` is refused with status 412 if the network has another one by then.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from starlette.requests import Request

from libnetvirt import aio
from libnetvirt.driver import Change
from libnetvirt.errors import InvalidDescription, PreconditionFailed
from libnetvirt.model import VirtualNetwork

#: Longest header in characters.
LIMIT: Final = 4096
#: entity-tag: RFC 9110, section 8.8.3; in ASCII, as ours are
_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"', re.ASCII)
ANY: Final = "*"


def quoted(network: VirtualNetwork) -> str:
    """The header ``ETag`` of a network."""
    return f'"{network.etag}"'


def unchanged(request: Request, network: VirtualNetwork) -> bool:
    """Whether the client has this version of a network already, by ``If-None-Match``."""
    given = request.headers.getlist("if-none-match")
    found = ",".join(given)
    # Weak comparison: RFC 9110, section 13.1.2. What is malformed matches nothing, and is answered in full.
    return len(found) <= LIMIT and (
        found.strip() == ANY or quoted(network) in {tag.removeprefix("W/") for tag in _TAG.findall(found)}
    )


def conditions(request: Request) -> frozenset[str] | None:
    """What ``If-Match`` permits: entity tags, or :data:`ANY`; None without that header. Raises
    InvalidDescription."""
    given = request.headers.getlist("if-match")
    if not given:
        return None
    text = ",".join(given).strip()
    if text == ANY:
        return frozenset((ANY,))
    found = frozenset(_TAG.findall(text)) if len(text) <= LIMIT else frozenset()
    # Without the tags, a list is commas and white space.
    rest = {part.strip(" \t") for part in _TAG.sub('""', text).split(",")}
    if not found or not rest <= {"", '""'}:
        raise InvalidDescription(
            'header If-Match: give the ETag of the network with its quotes, such as "5d41…", several with '
            "commas, or *"
        )
    return found


def check_none(request: Request) -> None:
    """Raises InvalidDescription if a request has a condition although it is not about one network."""
    if conditions(request) is not None:
        raise InvalidDescription(
            "header If-Match: this request is about no single network, so nothing would be compared: "
            "leave it out"
        )


async def check_network(request: Request, connection: aio.Connection, key: str) -> None:
    """Raises PreconditionFailed if the network of this uuid, or else this name, is not as the client has
    seen it. It may be changed right after that."""
    if (tags := conditions(request)) is not None:
        _check(tags, await connection.driver.lookup(key), key)


async def checked(request: Request, connection: aio.Connection, change: Change) -> Change:
    """The change that a request asks for: with the network as it is now as ``before``, if that is left out
    and the request has a condition.

    Drivers refuse a change whose ``before`` is not true when it is carried out, so nobody can come in
    between. Raises PreconditionFailed.
    """
    if (tags := conditions(request)) is None:
        return change
    now = await connection.driver.lookup(change.uuid)
    if now is not None and now.uuid != change.uuid:
        now = None  # it has this as its name
    now = _check(tags, now, change.uuid)
    if change.before is None:
        return replace(change, before=now)
    if change.before != now:
        raise stale(now.name)
    return change


def stale(name: str) -> PreconditionFailed:
    """The network was changed since the client has seen it."""
    return PreconditionFailed(
        f"network {name} was changed since you read it: read it again, then decide what to change"
    )


def _check(tags: frozenset[str], now: VirtualNetwork | None, key: str) -> VirtualNetwork:
    if now is None:
        raise PreconditionFailed(
            f"there is no network {key!r}, so it cannot be as you have seen it: it was removed, or leave "
            "If-Match out to create one"
        )
    # Strong comparison: a weak tag matches nothing.
    if ANY not in tags and quoted(now) not in tags:
        raise stale(now.name)
    return now
