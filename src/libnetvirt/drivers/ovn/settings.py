"""What a connection URI says."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from libnetvirt.errors import InvalidURI
from libnetvirt.ovsdb.remotes import Remote, tls_context
from libnetvirt.uri import URI

NORTHBOUND_PORT, SOUTHBOUND_PORT = 6641, 6642
_RUN = "unix:/var/run/ovn/"
OPTIONS: Mapping[str, str] = {
    "nb": f"the northbound database, or several members of its cluster (default {_RUN}ovnnb_db.sock)",
    "sb": f"the southbound database, likewise (default {_RUN}ovnsb_db.sock)",
    "vswitch": "NAME@REMOTE, or several: the Open_vSwitch databases of chassis, to see their interfaces and "
    "to set iface-id (default none: set external_ids:iface-id=CHASSIS:INTERFACE yourself)",
    "key": "file of the key for ssl",
    "certificate": "file of the certificate for ssl",
    "ca": "file of the authority that certified the servers",
    "owner": "whose rows are ours: networks of other owners are not seen (default libnetvirt)",
    "confirm-timeout": "seconds that OVN and each chassis have to confirm a change, 0.5 to 600 (default 30)",
    "bind-timeout": "seconds that a chassis has to find an interface, 0.1 to 600 (default 2)",
    "connect-timeout": "seconds that opening the connection may take, 0.1 to 600 (default 10)",
    "host-limit": "hosts that OVN may learn per endpoint, 1 to 1000000 (default 1024)",
    "probe": "seconds of silence after which a server is asked whether it lives, 0.5 to 600 (default 5)",
}


@dataclass(frozen=True)
class Settings:
    """A session's options, parsed."""

    northbound: tuple[Remote, ...]
    southbound: tuple[Remote, ...]
    vswitches: Mapping[str, tuple[Remote, ...]]
    tls: ssl.SSLContext | None
    owner: str
    confirm_timeout: float
    bind_timeout: float
    connect_timeout: float
    host_limit: int
    probe: float

    @classmethod
    def parse(cls, uri: URI) -> Self:
        """Read a URI. Raises InvalidURI."""
        uri.expect(OPTIONS)
        if uri.path not in ("", "/") or uri.port is not None:
            raise InvalidURI(
                f"{uri.text!r}: write ovn://HOST/ for both databases on one host, or "
                "ovn:///?nb=REMOTE,…&sb=REMOTE,…"
            )
        options, tls = uri.options, tls_context(uri.options)
        kind = "ssl" if tls else "tcp"
        host = f"[{uri.host}]" if ":" in uri.host else uri.host
        places = {
            "nb": f"{kind}:{host}:{NORTHBOUND_PORT}" if host else f"{_RUN}ovnnb_db.sock",
            "sb": f"{kind}:{host}:{SOUTHBOUND_PORT}" if host else f"{_RUN}ovnsb_db.sock",
        }
        nb, sb = (Remote.parse_all(options.get(name) or places[name]) for name in ("nb", "sb"))
        vswitches = dict(_vswitch(part) for part in options.get("vswitch", "").split(",") if part)
        every = (*nb, *sb, *(r for remotes in vswitches.values() for r in remotes))
        if tls is None and any(r.kind == "ssl" for r in every):
            raise InvalidURI(f"{uri.text!r}: ssl needs the options key, certificate and ca")
        owner = options.get("owner", "libnetvirt")
        if not owner or len(owner) > 63 or not owner.isprintable():
            raise InvalidURI(f"option owner in {uri.text!r}: write 1 to 63 printable characters")
        return cls(
            northbound=nb,
            southbound=sb,
            vswitches=vswitches,
            tls=tls,
            owner=owner,
            confirm_timeout=uri.number("confirm-timeout", 30, 0.5, 600),
            bind_timeout=uri.number("bind-timeout", 2, 0.1, 600),
            connect_timeout=uri.number("connect-timeout", 10, 0.1, 600),
            host_limit=int(uri.number("host-limit", 1024, 1, 1e6)),
            probe=uri.number("probe", 5, 0.5, 600),
        )


def _vswitch(text: str) -> tuple[str, tuple[Remote, ...]]:
    name, at, remote = text.partition("@")
    if not name or not at:
        raise InvalidURI(f"option vswitch: {text!r} is not NAME@REMOTE, such as ch1@tcp:10.0.0.1:6640")
    return name, (Remote.parse(remote),)
