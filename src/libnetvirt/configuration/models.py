"""The keys of netvirtd.toml, one pydantic field each: type, default and description.

Messages, ``netvirt config show`` and the tables of docs/netvirtd.md are made from the same fields. Documents
write ``-`` for ``_``. A new kind of listener is a model with its own ``kind``, added to :data:`Listener`;
what opens it is in :mod:`libnetvirt.daemon.listeners`.
"""

from __future__ import annotations

import grp
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from libnetvirt.configuration.events import EventsSettings
from libnetvirt.configuration.keys_base import AbsolutePath, Keys, Name
from libnetvirt.configuration.loopback import loopback
from libnetvirt.configuration.network_listeners import TcpListener, TlsListener
from libnetvirt.configuration.webhooks import Webhook
from libnetvirt.driver import load
from libnetvirt.errors import InvalidDescription, NetvirtError
from libnetvirt.suggestions import did_you_mean
from libnetvirt.uri import URI

#: where netvirtd looks for its configuration
PATH: Final = Path("/etc/libnetvirt/netvirtd.toml")
#: the socket of netvirtd if the configuration names none
SOCKET: Final = Path("/run/libnetvirt/netvirtd.sock")

#: where the tokens of clients on the network are, hashed
TOKENS: Final = Path("/var/lib/libnetvirt/tokens.json")


def _driver_uri(text: str) -> str:
    try:
        uri = URI.parse(text)
        if uri.transport:
            raise ValueError(f"{text!r} names a server: give the URI of a driver, such as {uri.driver}:///")
        settings = load(uri).settings
        known = [option.name for option in settings.options()]
        for name in sorted(uri.options.keys() - set(known)):
            raise ValueError(
                f"the {uri.driver} driver has no option {name!r}.{did_you_mean(name, known)} "
                "'netvirt drivers --verbose' lists the options"
            )
        settings.from_uri(uri)
    except InvalidDescription as error:
        raise ValueError("; ".join(fault.text for fault in error.faults)) from None
    except NetvirtError as error:
        raise ValueError(str(error)) from None
    return text


def _loopback(text: str) -> str:
    try:
        loopback(text)
    except InvalidDescription as error:
        raise ValueError(str(error)) from None
    return text


def _group(name: str) -> str:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):
        raise ValueError(
            f"there is no group {name!r} on this machine: groupadd --system {name} creates it"
        ) from None
    return name


class UnixListener(Keys):
    """A unix socket on which clients connect. Without any, netvirtd listens on one with the defaults."""

    HEADING: ClassVar[str] = "[[listeners]]"

    kind: Literal["unix"] = Field(default="unix", description="what clients connect to: a unix socket")
    path: AbsolutePath = Field(default=str(SOCKET), description="path of the socket, absolute")
    group: Annotated[str, AfterValidator(_group)] | None = Field(
        default=None,
        description="group whose members may connect, too (mode 0660); without it only the user who runs "
        "netvirtd may (0600), and root",
    )
    connection: Name | None = Field(
        default=None,
        description="name of the connection that clients of this socket get if their URI names none, "
        "instead of `default-connection`",
    )


#: The models of listeners by their kind.
KINDS: Final[dict[str, type[Keys]]] = {"unix": UnixListener, "tls": TlsListener, "tcp": TcpListener}


def _kind(value: Any) -> str:
    """Of a listener, or of what the file gives for one."""
    found = value.get("kind", "unix") if isinstance(value, dict) else getattr(value, "kind", "unix")
    return found if isinstance(found, str) else ""


#: All kinds of listeners.
Listener = Annotated[
    Annotated[UnixListener, Tag("unix")]
    | Annotated[TlsListener, Tag("tls")]
    | Annotated[TcpListener, Tag("tcp")],
    Discriminator(_kind),
]


class ConnectionSettings(Keys):
    """A connection: a driver with its options, which netvirtd opens and serves under this name."""

    HEADING: ClassVar[str] = "[connections.NAME]"

    uri: Annotated[str, AfterValidator(_driver_uri)] = Field(
        description="connection URI of the driver, with its [options](drivers/options.md)"
    )
    required: bool = Field(
        default=True,
        description="`true`: netvirtd does not start without this connection. `false`: it starts, and tries "
        "again until the connection opens",
    )


class LogSettings(Keys):
    """What netvirtd writes to its log, which is its standard error (under systemd: the journal)."""

    HEADING: ClassVar[str] = "[log]"

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="the least severe messages that are written"
    )
    format: Literal["text", "json"] = Field(
        default="text", description="how lines are written: as text, or one JSON object each"
    )


class MetricsSettings(Keys):
    """Where Prometheus reads metrics, besides the unix sockets: see [monitoring](monitoring.md)."""

    HEADING: ClassVar[str] = "[metrics]"

    listen: Annotated[str, AfterValidator(_loopback)] | None = Field(
        default=None,
        description="address of the loopback interface and port, such as `127.0.0.1:9091`; without it there "
        "is no such port",
    )


class Configuration(Keys):
    """At the top of the file, before all tables."""

    HEADING: ClassVar[str] = "netvirtd.toml"

    default_connection: Name | None = Field(
        default=None,
        description="name of the connection that clients get if their URI names none; not needed "
        "if there is one",
    )
    tokens: AbsolutePath = Field(
        default=str(TOKENS),
        description="file with the hashed tokens of clients on the network, which `netvirt token` writes",
    )
    listeners: tuple[Listener, ...] = Field(default=(UnixListener(),), min_length=1, strict=False)
    connections: dict[Name, ConnectionSettings] = Field(min_length=1)
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    events: EventsSettings = EventsSettings()
    webhook: tuple[Webhook, ...] = Field(default=(), max_length=64, strict=False)

    def default_of(self, listener: Listener | None = None) -> str | None:
        """The connection of clients that name none; None if they have to name one."""
        if listener is not None and listener.connection:
            return listener.connection
        if self.default_connection:
            return self.default_connection
        return next(iter(self.connections)) if len(self.connections) == 1 else None
