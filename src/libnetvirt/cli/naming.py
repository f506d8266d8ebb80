"""Which network a word of the command line means.

A network's name may be the uuid of another network. A word that could mean either is refused; so is a word
that looks like a uuid and is only a name, because it may have meant a network that is gone: a second
``netvirt remove 7`` must not remove the network that is *named* 7. ``uuid:7`` and ``name:7`` say which.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from typing import TYPE_CHECKING, Protocol, TypeVar

from libnetvirt.errors import Conflict, NetworkNotFound
from libnetvirt.model.scalars import uuid_text

if TYPE_CHECKING:
    import libnetvirt
    from libnetvirt import aio
    from libnetvirt.session import By


class Known(Protocol):
    """A network, of which the uuid is known at least."""

    @property
    def uuid(self) -> str: ...


N = TypeVar("N", bound=Known)

#: what is to be looked up, by what; the network is sent back; the one that is meant is returned
Steps = Generator["tuple[str, By | None]", N, N]

UUID, NAME = "uuid:", "name:"
#: with more words than this, all networks are read at once
_FEW = 4


def find(connection: libnetvirt.Connection, word: str) -> libnetvirt.Network:
    """The network that a word means. Raises NetworkNotFound, Conflict."""
    return _run(_found(word), lambda key, by: connection.lookup(key, by=by))


async def find_async(connection: aio.Connection, word: str) -> aio.Network:
    """The same, as a coroutine."""
    steps: Steps[aio.Network] = _found(word)
    question = next(steps)
    while True:
        try:
            try:
                network = await connection.lookup(question[0], by=question[1])
            except NetworkNotFound as error:
                question = steps.throw(error)
            else:
                question = steps.send(network)
        except StopIteration as end:
            found: aio.Network = end.value
            return found


def find_all(
    connection: libnetvirt.Connection, words: Collection[str]
) -> tuple[list[str], NetworkNotFound | None]:
    """The uuids of the networks that words mean, up to the first one that means none, and the error of that.

    Raises Conflict if any word may mean either of two networks: then nothing should be done for any of them.
    """
    known: dict[tuple[By | None, str], Known] = {}
    if len(words) > _FEW:
        for network in connection.descriptions():
            known[("name", network.name)] = known[("uuid", network.uuid)] = network

    def lookup(key: str, by: By | None) -> Known:
        return known.get((by or "name", key)) or connection.lookup(key, by=by)

    found: list[str] = []
    missing: NetworkNotFound | None = None
    for word in words:
        try:
            uuid = _run(_found(word), lookup).uuid
        except NetworkNotFound as error:
            missing = missing or error
        else:
            if missing is None:
                found.append(uuid)
    return found, missing


def _run(steps: Steps[N], lookup: Callable[[str, By | None], N]) -> N:
    question = next(steps)
    while True:
        try:
            try:
                network = lookup(*question)
            except NetworkNotFound as error:
                question = steps.throw(error)
            else:
                question = steps.send(network)
        except StopIteration as end:
            found: N = end.value
            return found


def _found(word: str) -> Steps[N]:
    """Yields what is to be looked up, gets the networks, and returns the one that is meant."""
    kind, colon, rest = word.partition(":")
    if colon and kind == "uuid":
        return (yield _uuid(rest) or rest, "uuid")
    if colon and kind == "name":
        return (yield rest, "name")
    uuid = _uuid(word)
    if uuid is None:
        return (yield word, None)
    try:
        found = yield uuid, "uuid"
    except NetworkNotFound as error:
        try:
            other = yield word, "name"
        except NetworkNotFound:
            raise error from None
        raise NetworkNotFound(
            f"there is no network with uuid {word}; network {other.uuid} has the name {word}: write "
            f"{NAME}{word} if you mean that one"
        ) from None
    try:
        other = yield word, "name"
    except NetworkNotFound:
        return found
    if other.uuid != found.uuid:
        raise Conflict(
            f"{word} is the uuid of one network and the name of another (uuid {other.uuid}): write "
            f"{UUID}{word} or {NAME}{word}"
        )
    return found


def _uuid(word: str) -> str | None:
    """The canonical text of a word that looks like a uuid, else None."""
    try:
        return uuid_text(word)
    except ValueError:
        return None
