"""What is wrong between keys of the configuration that are right by themselves, and in the files they name.

Other keys may have faults: what does not depend on them is checked all the same, so that one look tells all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from libnetvirt.configuration import webhooks
from libnetvirt.configuration.certificates import faults_of
from libnetvirt.configuration.models import SOCKET
from libnetvirt.configuration.network_listeners import TlsListener, spelled
from libnetvirt.configuration.toml import Location
from libnetvirt.driver import Driver, load
from libnetvirt.model.event_kinds import EVENT_KINDS
from libnetvirt.suggestions import did_you_mean
from libnetvirt.uri import URI


class Right:
    """The document, without what has a fault by itself: ``faulty``."""

    def __init__(self, document: Mapping[str, Any], faulty: Iterable[Location]) -> None:
        self.document = document
        # Every place with a fault in it.
        self._spoilt = {one[:length] for one in faulty for length in range(1, len(one) + 1)}

    def get(self, *location: str | int) -> Any:
        """A value that is given and has no fault, in itself or in its members; None if there is none."""
        return None if location in self._spoilt else self._found(location)

    def tables(self, *location: str | int) -> list[tuple[str | int, Mapping[str, Any]]]:
        """(name or number, table) of the tables in a table or array; their keys may have faults."""
        found = self._found(location)
        members = found.items() if isinstance(found, dict) else enumerate(found or ())
        return [(key, table) for key, table in members if isinstance(table, dict)]

    def whole(self, *location: str | int) -> bool:
        """Whether no key of a table has a fault: what it leaves out then is meant to have its default."""
        return location not in self._spoilt

    def _found(self, location: Iterable[str | int]) -> Any:
        value: Any = self.document
        for step in location:
            if isinstance(value, dict):
                value = value.get(str(step))
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value


def contradictions(right: Right) -> Iterator[tuple[Location, str]]:
    """(place, what is wrong and the remedy) between keys."""
    yield from _listeners(right)
    yield from _webhooks(right)
    yield from _names(right)
    yield from _connections(right)


def of_files(right: Right) -> Iterator[tuple[Location, str]]:
    """What is wrong in the files of certificates and secrets, of listeners and webhooks without a fault."""
    for i, table in right.tables("listeners"):
        if table.get("kind") == "tls" and right.whole("listeners", i):
            try:
                listener = TlsListener.model_validate(table)
            except ValidationError:
                continue
            for key, text in faults_of(listener):
                yield ("listeners", i, key), text
    for i, table in right.tables("webhook"):
        try:
            hook = webhooks.Webhook.model_validate(table)
        except ValidationError:
            continue
        for key, text in webhooks.faults_of(hook):
            yield ("webhook", i, key), text


def _listeners(right: Right) -> Iterator[tuple[Location, str]]:
    paths: dict[str, str | int] = {}
    for i, table in right.tables("listeners"):
        unix = right.get("listeners", i, "kind") in (None, "unix")
        key = "path" if unix else "address"
        text = right.get("listeners", i, key)
        if text is None and unix and key not in table and right.whole("listeners", i):
            text = str(SOCKET)
        if not isinstance(text, str):
            continue
        path = text if unix else spelled(text)
        if (first := paths.setdefault(path, i)) != i:
            yield (
                ("listeners", i, key),
                f"{path} is the {key} of listener {int(first) + 1} already: choose another",
            )


def _webhooks(right: Right) -> Iterator[tuple[Location, str]]:
    names: dict[str, str | int] = {}
    kinds = dict(EVENT_KINDS)
    for _, driver, _ in _drivers(right):
        kinds |= driver.event_kinds
    for i, _ in right.tables("webhook"):
        name = right.get("webhook", i, "name")
        if isinstance(name, str) and (first := names.setdefault(name, i)) != i:
            yield ("webhook", i, "name"), f"webhook {int(first) + 1} has this name: choose another"
        for kind in right.get("webhook", i, "kinds") or ():
            if not any(fnmatchcase(one, kind) for one in kinds):
                meant = did_you_mean(kind, kinds) or " docs/events.md lists the kinds"
                yield ("webhook", i, "kinds"), f"there is no kind of event {kind!r}.{meant}"


def _names(right: Right) -> Iterator[tuple[Location, str]]:
    """Names of connections that do not exist."""
    known = right.document.get("connections")
    if not isinstance(known, dict) or not known:
        return
    places: list[Location] = [("default-connection",)]
    for array in ("listeners", "webhook"):
        places += [(array, i, "connection") for i, _ in right.tables(array)]
    for place in places:
        name = right.get(*place)
        if isinstance(name, str) and name not in known:
            meant = did_you_mean(name, known) or f" there is {', '.join(known)}"
            yield place, f"there is no connection {name!r}:{meant}"


def _connections(right: Right) -> Iterator[tuple[Location, str]]:
    """Paths that depend on where netvirtd is started, and what cannot be opened twice."""
    uris: dict[str, str] = {}
    states: dict[str, str] = {}
    for name, driver, uri in _drivers(right):
        place: Location = ("connections", name, "uri")
        settings = driver.settings.from_uri(uri)
        for option, path in settings.files().items():
            if not Path(path).is_absolute():
                yield (
                    place,
                    f"the option {option}={path} would depend on the directory in which netvirtd is started: "
                    "begin it with /",
                )
        if (other := uris.setdefault(uri.text, name)) != name and not uri.text.startswith("test:"):
            yield place, f"connection {other!r} has the same URI: change it, for it cannot be opened twice"
            continue
        state = settings.state_path
        if not Path(state).is_absolute():
            continue
        if (other := states.setdefault(os.path.realpath(state), name)) != name:
            yield (
                place,
                f"connection {other!r} keeps its state in {state}, too, which only one can: give each "
                "a file of its own, with the option state=FILE",
            )


def _drivers(right: Right) -> Iterator[tuple[str, type[Driver], URI]]:
    """(name, driver, URI) of the connections whose URI is right."""
    for name, _ in right.tables("connections"):
        text = right.get("connections", name, "uri")
        if isinstance(text, str):
            uri = URI.parse(text)
            yield str(name), load(uri), uri
