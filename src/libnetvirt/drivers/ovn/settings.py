"""The options of the ovn driver's URI."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field

from libnetvirt.errors import InvalidURI
from libnetvirt.ovsdb.remotes import Remote, tls_context
from libnetvirt.settings import DriverSettings, File, Owner, Shown, parsed_by
from libnetvirt.uri import URI

_TLS_FILES = ("key", "certificate", "ca")
_PORTS = {"nb": 6641, "sb": 6642}


def _vswitches(text: str) -> dict[str, tuple[Remote, ...]]:
    return dict(_vswitch(part) for part in text.split(",") if part)


def _vswitch(text: str) -> tuple[str, tuple[Remote, ...]]:
    name, at, remote = text.partition("@")
    if not name or not at:
        raise InvalidURI(f"{text!r} is not NAME@REMOTE, such as ch1@tcp:10.0.0.1:6640")
    return name, (Remote.parse(remote),)


_Cluster = Annotated[
    tuple[Remote, ...], parsed_by(Remote.parse_all), Shown("REMOTE, or several: the members of a cluster")
]


class OvnSettings(DriverSettings):
    """The options of an ``ovn:///`` URI."""

    northbound: _Cluster = Field(
        Remote.parse_all("unix:/var/run/ovn/ovnnb_db.sock"), alias="nb", description="the northbound database"
    )
    southbound: _Cluster = Field(
        Remote.parse_all("unix:/var/run/ovn/ovnsb_db.sock"), alias="sb", description="the southbound database"
    )
    vswitches: Annotated[
        Mapping[str, tuple[Remote, ...]], parsed_by(_vswitches), Shown("NAME@REMOTE, or several")
    ] = Field(
        {},
        alias="vswitch",
        description="the Open_vSwitch databases of chassis, to see their interfaces and to set iface-id; "
        "without, set external_ids:iface-id=CHASSIS:INTERFACE yourself",
    )
    key: File = Field(None, description="the driver's private key for ssl (PEM)")
    certificate: File = Field(None, description="the driver's certificate for ssl (PEM)")
    ca: File = Field(None, description="the CA certificate of the servers (PEM)")
    owner: Owner = Field(
        "libnetvirt", description="marks the rows of this driver; networks of other owners are not shown"
    )
    confirm_timeout: float = Field(
        30.0, ge=0.5, le=600, description="seconds until OVN and each chassis must have confirmed a change"
    )
    bind_timeout: float = Field(
        2.0,
        ge=0.1,
        le=600,
        description="seconds without progress after which an unbound interface counts as missing",
    )
    connect_timeout: float = Field(
        10.0, ge=0.1, le=600, description="seconds until the connection must be open"
    )
    host_limit: int = Field(1024, ge=1, le=1_000_000, description="hosts that OVN may learn per endpoint")
    probe: float = Field(
        5.0, ge=0.5, le=600, description="seconds of silence after which a keep-alive is sent to a server"
    )

    @classmethod
    def from_uri(cls, uri: URI) -> Self:
        """Parse a URI: its options, or the host of both databases. Blocks while the files for ssl are read.

        Raises InvalidURI.
        """
        if uri.path not in ("", "/") or uri.port is not None:
            raise InvalidURI(
                f"{uri.text!r}: write ovn://HOST/ for both databases on one host, or "
                "ovn:///?nb=REMOTE,…&sb=REMOTE,…"
            )
        # An empty address is none.
        options = {name: text for name, text in uri.options.items() if text or name not in _PORTS}
        if uri.host:
            kind = "ssl" if any(options.get(name) for name in _TLS_FILES) else "tcp"
            host = f"[{uri.host}]" if ":" in uri.host else uri.host
            options = {**{name: f"{kind}:{host}:{port}" for name, port in _PORTS.items()}, **options}
        settings = super().from_uri(replace(uri, options=options))
        every = (
            *settings.northbound,
            *settings.southbound,
            *(r for v in settings.vswitches.values() for r in v),
        )
        if settings.tls is None and any(remote.kind == "ssl" for remote in every):
            raise InvalidURI(f"{uri.text!r}: ssl needs the options key, certificate and ca")
        return settings

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """The context for connections by ssl; None if there are no certificates."""
        return tls_context(self.given(*_TLS_FILES))
