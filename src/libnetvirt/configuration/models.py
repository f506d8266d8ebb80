"""The keys of netvirtd.toml, one pydantic field each: type, default and description.

Messages, ``netvirt config show`` and the tables of docs/netvirtd.md are made from the same fields. Documents
write ``-`` for ``_``. A new kind of listener is a model with its own ``kind``, added to :data:`Listener`;
what opens it is in :mod:`libnetvirt.daemon.listeners`.
"""

from __future__ import annotations

import grp
import re
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from libnetvirt.driver import load
from libnetvirt.errors import InvalidDescription, NetvirtError
from libnetvirt.model.messages import hyphenated
from libnetvirt.suggestions import did_you_mean
from libnetvirt.uri import URI

#: where netvirtd looks for its configuration
PATH: Final = Path("/etc/libnetvirt/netvirtd.toml")
#: the socket of netvirtd if the configuration names none
SOCKET: Final = Path("/run/libnetvirt/netvirtd.sock")

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


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


def _group(name: str) -> str:
    try:
        grp.getgrnam(name)
    except (KeyError, ValueError):
        raise ValueError(
            f"there is no group {name!r} on this machine: groupadd --system {name} creates it"
        ) from None
    return name


def _absolute(text: str) -> str:
    if not Path(text).is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is not an absolute path: begin it with /")
    return text


def _connection_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:40]!r} is not a name for a connection: use up to 63 of a-z, 0-9, - and _, "
            "beginning with a letter or digit"
        )
    return text


Name = Annotated[str, AfterValidator(_connection_name)]


class Keys(BaseModel):
    """Base of the tables of the configuration. Types are strict: ``"true"`` is not ``true``."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=hyphenated, loc_by_alias=True
    )

    #: how the table is written in the file, and what it is
    HEADING: ClassVar[str] = ""


class UnixListener(Keys):
    """A unix socket on which clients connect. Without any, netvirtd listens on one with the defaults."""

    HEADING: ClassVar[str] = "[[listeners]]"

    kind: Literal["unix"] = Field(default="unix", description="what clients connect to: a unix socket")
    path: Annotated[str, AfterValidator(_absolute)] = Field(
        default=str(SOCKET), description="path of the socket, absolute"
    )
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


#: All kinds of listeners.
Listener = UnixListener


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


class Configuration(Keys):
    """At the top of the file, before all tables."""

    HEADING: ClassVar[str] = "netvirtd.toml"

    default_connection: Name | None = Field(
        default=None,
        description="name of the connection that clients get if their URI names none; not needed "
        "if there is one",
    )
    listeners: tuple[Listener, ...] = Field(default=(UnixListener(),), min_length=1, strict=False)
    connections: dict[Name, ConnectionSettings] = Field(min_length=1)
    log: LogSettings = LogSettings()

    def default_of(self, listener: Listener | None = None) -> str | None:
        """The connection of clients that name none; None if they have to name one."""
        if listener is not None and listener.connection:
            return listener.connection
        if self.default_connection:
            return self.default_connection
        return next(iter(self.connections)) if len(self.connections) == 1 else None
