"""All errors that libnetvirt raises.

::

    NetvirtError
     ├── InvalidDescription      a description is wrong; lists every fault                3
     │    └── InvalidURI         a connection URI is wrong
     ├── NotFound                                                                         4
     │    ├── NetworkNotFound
     │    ├── EndpointNotFound
     │    ├── ConstraintNotFound
     │    └── DriverNotFound      the URI names a driver that is not installed            3
     ├── Conflict                                                                         5
     │    ├── AlreadyExists      uuid or name taken
     │    ├── EndpointClaimed    another endpoint has this (switch, port, tag)
     │    ├── AddressConflict    a MAC address that must be unique is in use elsewhere
     │    ├── StaleChange        another client changed the network meanwhile
     │    └── PreconditionFailed  the network is not as the caller has seen it
     ├── Unsupported             the driver does not support this                         6
     ├── SubstrateError          the physical network cannot do this                      7
     │    ├── SwitchNotFound
     │    ├── PortNotFound
     │    ├── SwitchUntrusted    a switch may forward frames past the rules of networks
     │    ├── NoPath
     │    ├── LabelsExhausted
     │    ├── ConstraintUnmet    no path meets a constraint
     │    ├── RuleRefused        a switch rejected a rule; the change was undone
     │    └── SwitchTimeout      a switch did not confirm in time; the change was undone
     ├── AccessDenied            the client's token does not permit this                  9
     │    └── TokenRefused       the server wants a token, or does not accept this one
     └── ConnectionFailed                                                                 8
          ├── DaemonUnreachable
          ├── ServerBusy         the daemon holds as much as it can: try again later
          ├── AddressInUse
          ├── StateUnusable      the durable state cannot be read or written
          ├── NotLeader          another controller leads: nothing was done, ask that one
          └── ConnectionClosed

The number is the exit status of the command line. :data:`CODES` maps the code of an error, a stable string,
to its class; the daemon's interface uses these codes. A message says in one paragraph what is wrong and how
to correct it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


class NetvirtError(Exception):
    """The base class of all errors of this library.

    ``code`` is a stable string for programs, ``exit_status`` the exit status of the command line,
    ``http_status`` the status code of the daemon's responses.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def to_json(self) -> dict[str, Any]:
        """Return the error as the daemon's interface sends it: code and message."""
        return {"code": self.code, "message": str(self)}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault in a description.

    ``text`` says what was found and what is allowed. ``path`` is the element (``network/endpoint[11]/vlan``),
    ``file`` and ``line`` (from 1) are its position if the description was read from a text.
    """

    text: str
    path: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line) if p)
        return ": ".join(p for p in (place, self.path, self.text) if p)


class InvalidDescription(NetvirtError):
    """A description is wrong; ``faults`` lists all its faults."""

    code = "invalid-description"
    exit_status = 3
    http_status = 422

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        self.faults: tuple[Fault, ...] = (Fault(faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(str(f) for f in self.faults))

    def to_json(self) -> dict[str, Any]:
        """Return the error as the daemon's interface sends it: code, message and faults."""
        return {**super().to_json(), "faults": [asdict(f) for f in self.faults]}


class InvalidURI(InvalidDescription):
    """A connection URI is wrong."""

    code = "invalid-uri"


class NotFound(NetvirtError):
    """The named object does not exist."""

    code = "not-found"
    exit_status = 4
    http_status = 404


class NetworkNotFound(NotFound):
    """No virtual network has this uuid or name."""

    code = "network-not-found"


class EndpointNotFound(NotFound):
    """The virtual network has no endpoint with this uuid."""

    code = "endpoint-not-found"


class ConstraintNotFound(NotFound):
    """The virtual network has no constraint between these endpoints."""

    code = "constraint-not-found"


class DriverNotFound(NotFound):
    """No installed driver serves this URI scheme."""

    code = "driver-not-found"
    #: that of a wrong URI
    exit_status = InvalidURI.exit_status


class Conflict(NetvirtError):
    """The request conflicts with existing networks."""

    code = "conflict"
    exit_status = 5
    http_status = 409


class AlreadyExists(Conflict):
    """The uuid or name is taken."""

    code = "already-exists"


class EndpointClaimed(Conflict):
    """Another endpoint has this (switch, port, tag): the ``endpoint`` of ``network``, as uuids, which are
    empty if the place belongs to no network."""

    code = "endpoint-claimed"

    def __init__(self, message: str, *, network: str = "", endpoint: str = "") -> None:
        super().__init__(message)
        self.network = network
        self.endpoint = endpoint

    def to_json(self) -> dict[str, Any]:
        """Return the error as the daemon's interface sends it: code, message, network and endpoint."""
        return {**super().to_json(), "network": self.network, "endpoint": self.endpoint}


class AddressConflict(Conflict):
    """A MAC address that must be unique across networks is in use in another one."""

    code = "address-conflict"


class StaleChange(Conflict):
    """Another client changed the network after it was read; read it again and retry."""

    code = "stale-change"


class PreconditionFailed(Conflict):
    """The network is not as the caller has seen it and wants to change it (``if_match``, ``If-Match``)."""

    code = "precondition-failed"
    http_status = 412


class Unsupported(NetvirtError):
    """The driver does not support the request."""

    code = "unsupported"
    exit_status = 6
    http_status = 501


class SubstrateError(NetvirtError):
    """The physical network cannot carry out the request."""

    code = "substrate"
    exit_status = 7
    http_status = 503


class SwitchNotFound(SubstrateError):
    """The switch is not connected."""

    code = "switch-not-found"


class PortNotFound(SubstrateError):
    """The switch has no such port, or the port cannot hold an endpoint."""

    code = "port-not-found"


class SwitchUntrusted(SubstrateError):
    """A switch may forward frames past the rules of networks, so new networks are refused there."""

    code = "switch-untrusted"


class NoPath(SubstrateError):
    """The substrate has no path between two endpoints."""

    code = "no-path"


class LabelsExhausted(SubstrateError):
    """No label is left for one more network or tunnel."""

    code = "labels-exhausted"


class ConstraintUnmet(SubstrateError):
    """No path has the bandwidth, latency and hops that a constraint requires."""

    code = "constraint-unmet"


class RuleRefused(SubstrateError):
    """A switch rejected a rule; the change was undone."""

    code = "rule-refused"


class SwitchTimeout(SubstrateError):
    """A switch did not confirm a change in time; the change was undone."""

    code = "switch-timeout"


class AccessDenied(NetvirtError):
    """The client's token does not permit this."""

    code = "access-denied"
    exit_status = 9
    http_status = 403


class TokenRefused(AccessDenied):
    """The server wants a token, or does not accept the one it got."""

    code = "token-refused"
    http_status = 401


class ConnectionFailed(NetvirtError):
    """The connection to the driver cannot be opened or has failed."""

    code = "connection-failed"
    exit_status = 8
    http_status = 502


class DaemonUnreachable(ConnectionFailed):
    """No daemon answers at its address."""

    code = "daemon-unreachable"


class ServerBusy(ConnectionFailed):
    """The daemon holds as many requests as it can: try again later."""

    code = "server-busy"
    http_status = 503


class AddressInUse(ConnectionFailed):
    """The address to listen on is in use."""

    code = "address-in-use"


class StateUnusable(ConnectionFailed):
    """The durable state cannot be read or written, or another process uses it."""

    code = "state-unusable"


class NotLeader(ConnectionFailed):
    """Another controller of the same networks leads, or none does at present: nothing was done. ``leader``:
    where clients reach the one that leads; empty if that is not known."""

    code = "not-leader"
    http_status = 421

    def __init__(self, message: str, *, leader: str = "") -> None:
        super().__init__(message)
        self.leader = leader

    def to_json(self) -> dict[str, Any]:
        """Return the error as the daemon's interface sends it: code, message and leader."""
        return {**super().to_json(), "leader": self.leader}


class ConnectionClosed(ConnectionFailed):
    """The connection has been closed."""

    code = "connection-closed"


def _tree(cls: type[NetvirtError]) -> Iterator[type[NetvirtError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _tree(sub)


#: stable string code -> class
CODES: dict[str, type[NetvirtError]] = {cls.code: cls for cls in _tree(NetvirtError)}


def from_json(document: dict[str, Any]) -> NetvirtError:
    """Return the error that :meth:`NetvirtError.to_json` describes.

    An unknown code gives a :class:`NetvirtError`.
    """
    cls = CODES.get(str(document.get("code")), NetvirtError)
    if issubclass(cls, InvalidDescription):
        faults = document.get("faults") or [{"text": str(document.get("message"))}]
        return cls([Fault(**f) for f in faults])
    message = str(document.get("message", "an error without a message"))
    if issubclass(cls, NotLeader):
        return cls(message, leader=str(document.get("leader") or ""))
    if issubclass(cls, EndpointClaimed):
        holder = (str(document.get(name) or "") for name in ("network", "endpoint"))
        return cls(message, **dict(zip(("network", "endpoint"), holder, strict=True)))
    return cls(message)
