"""What a client may do: everything on a unix socket, on the network what its token permits.

======================  ====================================================================================
role                    requests
======================  ====================================================================================
none                    ``GET /healthz``
``read``                all other GET, but for backups and the configuration; checks of changes
``operate``             also changes, repairs and verifications of networks
``admin``               everything: reloads, decisions about switches, backups, the configuration
======================  ====================================================================================

What is in no row of :data:`RULES` needs ``admin``. A token for some networks sees and changes these only, and
nothing that is about all of them; one for some connections is for these only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Scope

from libnetvirt.configuration.tokens import ROLES, Role, Token
from libnetvirt.daemon.wire import AccessReport
from libnetvirt.driver import Change
from libnetvirt.errors import (
    AccessDenied,
    AddressConflict,
    AlreadyExists,
    EndpointClaimed,
    NetvirtError,
    NetworkNotFound,
)
from libnetvirt.events import LOST
from libnetvirt.model import VirtualNetwork

#: the key of a request's scope
ACCESS: Final = "libnetvirt.access"

#: Resources that anybody may read: they tell nothing about networks.
OPEN: Final = frozenset(("/healthz",))


@dataclass(frozen=True, slots=True)
class Rule:
    """Which role a request needs. ``whole``: it is about all networks, and so not for a token for some."""

    methods: frozenset[str]
    path: re.Pattern[str]
    role: Role
    whole: bool = False


def _rule(methods: str, path: str, role: Role, *, whole: bool = False) -> Rule:
    return Rule(frozenset(methods.split()), re.compile(path), role, whole)


#: The first one that matches holds. Paths are those of one connection, without its name.
RULES: Final = (
    _rule("GET HEAD", r"/v1/(backup|configuration)", "admin", whole=True),
    _rule("GET HEAD", r"/v1/(rules|substrate|recovered|metrics)|/metrics|/readyz", "read", whole=True),
    _rule("GET HEAD", r"/v1/networks/[^/]+/explanation", "read", whole=True),
    _rule("GET HEAD", r"/v1/networks/[^/]+(/[a-z-]+)?|/v1/operations(/[^/]+)?", "read"),
    _rule("GET HEAD", r"/v1/(version|capabilities|networks|events|connections|access|openapi\.json)", "read"),
    _rule("POST", r"/v1/(checks|forecasts)", "read"),
    _rule("POST", r"/v1/(changes|repairs|operations/[^/]+/cancel)", "operate"),
    _rule("POST", r"/v1/verifications", "operate", whole=True),
    _rule("DELETE", r"/v1/changes/[^/]+", "operate"),
    _rule("POST", r"/v1/(reloads|decisions|configuration/reloads)", "admin", whole=True),
)
_ALL_ELSE: Final = _rule("", "", "admin", whole=True)


def rule(method: str, path: str) -> Rule:
    """The rule for a request."""
    return next((one for one in RULES if method in one.methods and one.path.fullmatch(path)), _ALL_ELSE)


class Access:
    """What one client may do. Without a token: everything.

    ``valid``: asks whether the token still holds; a stream of events ends when it does not.
    """

    def __init__(self, token: Token | None = None, valid: Callable[[], bool] = lambda: True) -> None:
        self._token = token
        self.valid = valid
        self._networks = frozenset(token.networks) if token is not None else frozenset()

    @property
    def limited(self) -> bool:
        """Whether it is for some networks only."""
        return bool(self._networks)

    def report(self) -> AccessReport:
        """What the client is told of it."""
        if (token := self._token) is None:
            return AccessReport()
        return AccessReport(
            token=token.name, role=token.role, networks=token.networks, connections=token.connections
        )

    @property
    def owner(self) -> str:
        """Whose operations those of this client are; clients of unix sockets share theirs."""
        return "" if self._token is None else f"{self._token.name}/"

    @property
    def identity(self) -> str:
        """Who this client is: a token that was made again under the same name is another one."""
        return "" if self._token is None else f"{self._token.name}/{self._token.sha256}"

    def check(self, method: str, path: str) -> None:
        """Raises AccessDenied if the request needs another role, or is about all networks."""
        if (token := self._token) is None:
            return
        needed = rule(method, path)
        if ROLES.index(token.role) < ROLES.index(needed.role):
            raise AccessDenied(
                f"token {token.name!r} has the role {token.role}, and {method} {path} needs {needed.role}: "
                "use another token"
            )
        if needed.whole and self.limited:
            raise AccessDenied(
                f"token {token.name!r} is for some networks only, and {method} {path} is about all: use "
                "another token"
            )

    def check_connection(self, name: str) -> None:
        """Raises AccessDenied if the token is not for this connection. It may not exist."""
        if (token := self._token) is not None and token.connections and name not in token.connections:
            raise AccessDenied(
                f"token {token.name!r} is not for the connection {name!r} but for "
                f"{', '.join(token.connections)}: name one of them in the URI, as "
                f"?connection={token.connections[0]}"
            )

    def sees_connection(self, name: str) -> bool:
        """Whether a connection is listed for this client."""
        return self._token is None or not self._token.connections or name in self._token.connections

    def sees(self, uuid: str) -> bool:
        """Whether this client sees a network."""
        return not self._networks or uuid in self._networks

    def seen(self, networks: Sequence[VirtualNetwork]) -> list[VirtualNetwork]:
        """Those networks that this client sees."""
        return [one for one in networks if self.sees(one.uuid)]

    def check_network(self, uuid: str, key: str) -> None:
        """Raises NetworkNotFound if this client does not see the network: it is not told whether there is
        one. ``key``: what the client calls it."""
        if not self.sees(uuid):
            raise no_network(key)

    def check_change(self, change: Change) -> None:
        """Raises AccessDenied if the change is of a network that this client does not see."""
        for network in (change.before, change.after):
            if network is not None and not self.sees(network.uuid):
                raise AccessDenied(
                    f"token {self._name!r} is for some networks only, and {network.uuid} is not one of them: "
                    "use another token, or one of its networks"
                )

    def sees_operation(self, client: Access, network: str) -> bool:
        """Whether this client sees an operation that ``client`` has asked for. If it is for some networks, it
        sees its own; with the role admin, all that are of its networks."""
        return (
            not self.limited
            or self.identity == client.identity
            or (self.report().role == "admin" and network in self._networks)
        )

    def may_cancel(self, client: Access) -> bool:
        """Whether this client may cancel what ``client`` has asked for."""
        return self.identity == client.identity or self.report().role == "admin"

    def check_repair(self, network: str | None, *, orphans: bool) -> None:
        """Raises AccessDenied if a repair is of more than the networks that this client sees."""
        if self.limited and (network is None or orphans):
            raise AccessDenied(
                f"token {self._name!r} is for some networks only: name the network to repair, without orphans"
            )

    def told(self, error: NetvirtError) -> NetvirtError:
        """An error as this client may read it: it is not told of networks that it does not see."""
        if self.limited and isinstance(error, EndpointClaimed | AddressConflict | AlreadyExists):
            text = {
                EndpointClaimed: "another endpoint has this place: choose another switch, port or tag",
                AddressConflict: "a MAC address that must be unique is in use elsewhere: choose another",
            }.get(type(error), "the uuid or name is taken: choose another")
            return type(error)(text)
        return error

    def keep(self, lines: bytes) -> bytes:
        """Of lines with an event each, those that this client sees; an empty line stays one."""
        if not self.limited:
            return lines
        kept = b"".join(line for line in lines.splitlines(keepends=True) if self._sees_event(line))
        return kept or b"\n"

    def _sees_event(self, line: bytes) -> bool:
        if not line.strip():
            return True
        event: dict[str, Any] = json.loads(line)
        return event.get("network") in self._networks or event.get("kind") == LOST

    @property
    def _name(self) -> str:
        return self._token.name if self._token is not None else ""


def no_network(key: str) -> NetworkNotFound:
    """As sessions say it."""
    return NetworkNotFound(f"there is no network {key!r}: 'netvirt list' shows the networks")


#: The access of clients that need no token.
EVERYTHING: Final = Access()


def access(scope: Scope) -> Access:
    """The access of the client that sent a request."""
    found: Access = scope.get(ACCESS, EVERYTHING)
    return found
