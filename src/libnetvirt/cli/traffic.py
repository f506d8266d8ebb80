"""What networks and links carry now: counters, read twice, and the loads that a driver measures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from libnetvirt import Counters, Link, NotFound, Substrate, aio

#: the metric with the load of links, in bytes/s, of drivers that measure it
LOAD: Final = "netvirt_link_load_bytes_per_second"
#: the counters of an endpoint
_COUNTED = ("received_packets", "received_bytes", "delivered_packets", "delivered_bytes")
_UNITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")

#: switch, port, peer, port of the peer
LinkKey = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at one moment. ``counters``: by the uuid of the network, or, of one network, of the endpoint;
    None if the driver does not count. ``loads``: in bit/s, of the links whose load is known."""

    at: float
    names: Mapping[str, str]
    counters: Mapping[str, Mapping[str, int]] | None
    substrate: Substrate
    loads: Mapping[LinkKey, float]


async def sample(connection: aio.Connection, uuid: str | None) -> Sample:
    """Read the counters of all networks, or of the endpoints of one. Asks the switches."""
    features = (await connection.capabilities()).features
    names: dict[str, str] = {}
    counters: dict[str, Mapping[str, int]] | None = {} if "statistics" in features else None
    at = time.monotonic()
    for network in await connection.descriptions():
        if (uuid or network.uuid) != network.uuid:
            continue
        names[network.uuid] = network.name
        if counters is None:
            continue
        with suppress(NotFound):  # removed after the list was read
            found = await (await connection.lookup(network.uuid, by="uuid")).statistics()
            if uuid is None:
                counters[network.uuid] = {name: sum(getattr(c, name) for c in found) for name in _COUNTED}
            else:
                counters |= {c.endpoint: _of(c) for c in found}
    return Sample(at, names, counters, await connection.substrate(), await loads(connection))


def _of(counters: Counters) -> dict[str, int]:
    return {name: getattr(counters, name) for name in _COUNTED}


async def loads(connection: aio.Connection) -> dict[LinkKey, float]:
    """The loads of links, in bit/s, as far as the driver measures them."""
    if "metrics" not in (await connection.capabilities()).features:
        return {}
    found = next((m for m in await connection.metrics() if m.name == LOAD), None)
    if found is None:
        return {}
    return {
        (one.labels[0], one.labels[1], one.labels[2], one.labels[3]): one.value * 8 for one in found.values
    }


def key(link: Link) -> LinkKey:
    """What a link is called in metrics."""
    return link.source, link.source_port, link.destination, link.destination_port


def rates(before: Sample, now: Sample) -> list[dict[str, Any]]:
    """The traffic of each network or endpoint between two samples, the busiest first. ``uuid``; of networks
    ``name``; the counters; and for each counter its rate: packets/s or bit/s. A counter that was set back
    begins at 0."""
    seconds = max(now.at - before.at, 1e-3)
    rows = []
    for uuid, counters in (now.counters or {}).items():
        old = (before.counters or {}).get(uuid, counters)
        row: dict[str, Any] = {"uuid": uuid}
        if uuid in now.names:
            row["name"] = now.names[uuid]
        for name, value in counters.items():
            grown = value - old[name] if value >= old[name] else value
            what, _, unit = name.partition("_")
            if unit == "bytes":
                row[f"{what}-bits-per-second"] = round(grown * 8 / seconds)
            else:
                row[f"{what}-packets-per-second"] = round(grown / seconds)
            row[name.replace("_", "-")] = value
        rows.append(row)
    return sorted(rows, key=lambda row: -row["received-bits-per-second"] - row["delivered-bits-per-second"])


def link_rows(now: Sample) -> list[dict[str, Any]]:
    """The links, the fullest first. ``load`` in bit/s and ``utilisation`` (0 to 1) are None where they are
    not known; ``state``: up, unconfirmed or down."""
    rows = []
    for link in now.substrate.links:
        load = now.loads.get(key(link))
        rows.append(
            {
                "switch": link.source, "port": link.source_port, "peer": link.destination,
                "peer-port": link.destination_port, "state": state(link),
                "load": None if load is None else round(load), "capacity": link.capacity,
                "reserved": link.reserved, "free": link.free,
                "utilisation": round(load / link.capacity, 4) if load is not None and link.capacity else None,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: -(row["utilisation"] or 0.0))


def state(link: Link) -> str:
    """The state of a link in one word."""
    return "up" if link.up else "unconfirmed" if link.unconfirmed else "down"


def rate(bits: float | None) -> str:
    """bit/s with three digits: ``12.3 Mbit/s``."""
    if bits is None:
        return "-"
    unit = 0
    while bits >= 999.5 and unit < len(_UNITS) - 1:
        bits, unit = bits / 1000, unit + 1
    return f"{bits:.3g} {_UNITS[unit]}"
