"""Every error that libnetvirt raises on purpose.

::

    NetvirtError
     ├── InvalidDescription      the text or object is at fault; lists every fault       3
     │    └── InvalidURI         the connection URI is at fault
     ├── NotFound                                                                         4
     │    ├── NetworkNotFound
     │    ├── EndpointNotFound
     │    ├── ConstraintNotFound
     │    └── DriverNotFound
     ├── Conflict                                                                         5
     │    ├── AlreadyExists      uuid or name taken
     │    ├── EndpointClaimed    (switch, port, tag) belongs to another endpoint
     │    ├── AddressConflict    a host address that must be unique is in use elsewhere
     │    └── StaleChange        somebody changed the network meanwhile
     ├── Unsupported             the driver does not offer this                           6
     ├── SubstrateError          the physical network is at fault                         7
     │    ├── SwitchNotFound
     │    ├── PortNotFound
     │    ├── NoPath
     │    ├── LabelsExhausted
     │    ├── ConstraintUnmet    no path has what a constraint asks for
     │    ├── RuleRefused        a switch answered with an error; the change is undone
     │    └── SwitchTimeout      a switch did not confirm in time; the change is undone
     └── ConnectionFailed                                                                 8
          ├── DaemonUnreachable
          ├── AddressInUse
          ├── StateUnusable      the durable state cannot be read or written
          └── ConnectionClosed

The number is the exit status of the command line; :data:`CODES` maps the stable string code of an
error, which also travels over the daemon's interface, to its class. Messages say what was wrong and
what to do about it, in one paragraph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar


class NetvirtError(Exception):
    """The root of all errors of this library."""

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def to_json(self) -> dict[str, Any]:
        """What travels over the daemon's interface: code and message."""
        return {"code": self.code, "message": str(self)}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a description.

    ``path`` names the element (``network/endpoint[11]/vlan``); ``file`` and ``line`` say where the
    text has it, where there is a text; ``text`` says what was found and what is allowed.
    """

    text: str
    path: str = ""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        place = ":".join(str(p) for p in (self.file, self.line) if p)
        return ": ".join(p for p in (place, self.path, self.text) if p)


class InvalidDescription(NetvirtError):
    """A description is wrong; ``faults`` lists everything that is."""

    code = "invalid-description"
    exit_status = 3
    http_status = 422

    def __init__(self, faults: Iterable[Fault] | str) -> None:
        self.faults: tuple[Fault, ...] = (Fault(faults),) if isinstance(faults, str) else tuple(faults)
        super().__init__("\n".join(str(f) for f in self.faults))

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "faults": [asdict(f) for f in self.faults]}


class InvalidURI(InvalidDescription):
    """A connection URI is wrong."""

    code = "invalid-uri"


class NotFound(NetvirtError):
    """What was named does not exist."""

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


class Conflict(NetvirtError):
    """The request contradicts what exists."""

    code = "conflict"
    exit_status = 5
    http_status = 409


class AlreadyExists(Conflict):
    """The uuid or name is taken."""

    code = "already-exists"


class EndpointClaimed(Conflict):
    """Another endpoint holds this (switch, port, tag)."""

    code = "endpoint-claimed"


class AddressConflict(Conflict):
    """A MAC address that has to be unique across networks is already in use."""

    code = "address-conflict"


class StaleChange(Conflict):
    """The network changed between reading it and changing it; read again and retry."""

    code = "stale-change"


class Unsupported(NetvirtError):
    """The driver does not offer what was asked."""

    code = "unsupported"
    exit_status = 6
    http_status = 501


class SubstrateError(NetvirtError):
    """The physical network cannot do what was asked."""

    code = "substrate"
    exit_status = 7
    http_status = 503


class SwitchNotFound(SubstrateError):
    """The switch is not connected."""

    code = "switch-not-found"


class PortNotFound(SubstrateError):
    """The switch has no such port, or the port cannot hold an endpoint."""

    code = "port-not-found"


class NoPath(SubstrateError):
    """The substrate has no path between two endpoints."""

    code = "no-path"


class LabelsExhausted(SubstrateError):
    """No label is left for one more network or tunnel."""

    code = "labels-exhausted"


class ConstraintUnmet(SubstrateError):
    """No path has the bandwidth, latency or hops that a constraint asks for."""

    code = "constraint-unmet"


class RuleRefused(SubstrateError):
    """A switch refused a rule; nothing of the change is left behind."""

    code = "rule-refused"


class SwitchTimeout(SubstrateError):
    """A switch did not confirm in time; nothing of the change is left behind."""

    code = "switch-timeout"


class ConnectionFailed(NetvirtError):
    """The session with the driver cannot be opened or is broken."""

    code = "connection-failed"
    exit_status = 8
    http_status = 502


class DaemonUnreachable(ConnectionFailed):
    """Nobody answers at the daemon's address."""

    code = "daemon-unreachable"


class AddressInUse(ConnectionFailed):
    """The address to listen on is taken."""

    code = "address-in-use"


class StateUnusable(ConnectionFailed):
    """The durable state cannot be read or written, or another process holds it."""

    code = "state-unusable"


class ConnectionClosed(ConnectionFailed):
    """The connection was closed before."""

    code = "connection-closed"


def _tree(cls: type[NetvirtError]) -> Iterator[type[NetvirtError]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _tree(sub)


#: stable string code -> class
CODES: dict[str, type[NetvirtError]] = {cls.code: cls for cls in _tree(NetvirtError)}


def from_json(document: dict[str, Any]) -> NetvirtError:
    """Rebuild the error that :meth:`NetvirtError.to_json` wrote."""
    cls = CODES.get(str(document.get("code")), NetvirtError)
    if issubclass(cls, InvalidDescription):
        faults = document.get("faults") or [{"text": str(document.get("message"))}]
        return cls([Fault(**f) for f in faults])
    return cls(str(document.get("message", "unknown error")))
