"""``show``: the state of one network, its hosts, paths and counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt import VirtualNetwork
from libnetvirt.cli.naming import find
from libnetvirt.cli.options import Connect, Format, NetworkName, Output, chosen, connected
from libnetvirt.cli.output import document, line, pairs
from libnetvirt.cli.output import table as plain_table
from libnetvirt.cli.paging import pages
from libnetvirt.driver import Capabilities
from libnetvirt.model import Bandwidth, ConstraintCounters, Counters, NetworkState, Path

# Every pair of endpoints has a path. With more endpoints than this, the paths are shown only on request.
_FEW = 12


@dataclass
class _Snapshot:
    description: VirtualNetwork
    state: NetworkState
    capabilities: Capabilities
    paths: Sequence[Path] | None
    counters: Sequence[Counters] | None
    constraint_counters: Sequence[ConstraintCounters] | None


@pages
def show(
    ctx: typer.Context,
    network: NetworkName,
    all_paths: Annotated[
        bool, typer.Option("--paths", help="Show the paths also for networks with many endpoints.")
    ] = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show the details of a network.

    Shows the state of the network and its endpoints, their limits and routes, the known hosts, the paths,
    the counters and the MTU for hosts. For a network with constraints this takes a second, to measure their
    rates.

    \b
    Examples:
      netvirt show blue
      netvirt show 7 --format json
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        everything = all_paths or not wanted.tabular
        seen = _look(connection, find(connection, network), everything)
    if wanted.tabular:
        _print(seen, wanted)
        return
    result: dict[str, Any] = {
        "description": seen.description.model_dump(mode="json", by_alias=True, exclude_none=True)
    }
    result |= {"state": seen.state.to_json()}
    if seen.paths is not None:
        result["paths"] = [path.to_json() for path in seen.paths]
    if seen.counters is not None:
        result["statistics"] = [counters.to_json() for counters in seen.counters]
    if seen.constraint_counters is not None:
        result["constraint-statistics"] = [counters.to_json() for counters in seen.constraint_counters]
    document(result, wanted)


def _look(connection: libnetvirt.Connection, network: libnetvirt.Network, everything: bool) -> _Snapshot:
    capabilities = connection.capabilities()
    description = network.description()
    few = everything or len(description.endpoints) <= _FEW
    return _Snapshot(
        description,
        network.state(),
        capabilities,
        network.paths() if few and "paths" in capabilities.features else None,
        network.statistics() if "statistics" in capabilities.features else None,
        network.constraint_statistics()
        if description.constraints and "constraint.statistics" in capabilities.features
        else None,
    )


def _print(seen: _Snapshot, output: Format) -> None:
    table = partial(plain_table, output=output)
    description, state = seen.description, seen.state
    rules = seen.capabilities.resolve(description.rules)
    chosen_rules = [str(part) for part in (rules.encapsulation, rules.insertion, rules.timeout) if part]
    pairs(
        [
            ("name", description.name),
            ("uuid", description.uuid),
            ("forwarding", description.forwarding),
            ("state", state.state),
            ("mtu", state.mtu or "unknown"),
            ("rules", "/".join(chosen_rules) or "not configurable"),
        ]
    )
    for text in state.drift:
        line(f"changed by others: {text}")
    states = {e.uuid: e for e in state.endpoints}
    line("")
    table(
        ["ENDPOINT", "SWITCH", "PORT", "TAG", "STATE", "ADDRESS", "REASON"],
        [
            (
                e.uuid,
                e.switch,
                e.port,
                e.tag,
                states[e.uuid].state if e.uuid in states else "unknown",
                ", ".join(map(str, e.address)) or "-",
                (states[e.uuid].reason if e.uuid in states else "") or "-",
            )
            for e in description.endpoints
        ],
        title="Endpoints",
    )
    limits = [
        (e.uuid, e.bandwidth.inbound or "-", e.bandwidth.outbound or "-")
        for e in description.endpoints
        if e.bandwidth is not None
    ]
    if limits:
        line("")
        table(["ENDPOINT", "INBOUND", "OUTBOUND"], limits, title="Limits")
    storms = [
        (e.uuid, f"{e.storm.rate}/s", e.storm.action) for e in description.endpoints if e.storm is not None
    ]
    if storms:
        line("")
        table(["ENDPOINT", "RATE", "ACTION"], storms, title="Storm protection")
    levels = [(e.uuid, e.pcp.default, e.pcp.map or "-") for e in description.endpoints if e.pcp is not None]
    if levels:
        line("")
        table(["ENDPOINT", "DEFAULT", "MAP"], levels, title="Priorities")
    routes = [(e.uuid, route.prefix, route.via) for e in description.endpoints for route in e.route]
    if routes:
        line("")
        table(["ENDPOINT", "PREFIX", "VIA"], routes, title="Routes")
    if description.constraints:
        kept = {(c.source, c.destination): (c.state, c.reason or "-") for c in state.constraints}
        line("")
        table(
            ["FROM", "TO", "REQUIREMENTS", "PRIORITY", "STATE", "REASON"],
            [
                (
                    c.source,
                    c.destination,
                    ", ".join(f"{n} {v}" for n, v in c.asked.items()),
                    c.priority or 0,
                    *(kept.get(c.key) or ("-", "-")),
                )
                for c in description.constraints
            ],
            title="Constraints",
        )
    line("")
    table(
        ["MAC", "ENDPOINT", "ADDRESSES", "SOURCE"],
        [(h.mac, h.endpoint, ", ".join(h.addresses) or "-", h.source) for h in state.hosts],
        title="Hosts",
    )
    _print_traffic(seen, output)


def _print_traffic(seen: _Snapshot, output: Format) -> None:
    table = partial(plain_table, output=output)
    if seen.paths is not None:
        line("")
        table(
            ["FROM", "TO", "HOPS", "MTU"],
            [(p.source, p.destination, _hops(p), p.mtu or "-") for p in seen.paths],
            title="Paths",
        )
    elif "paths" in seen.capabilities.features:
        line("")
        line("Paths: too many to list here, use --paths")
    if seen.counters is not None:
        line("")
        table(
            ["ENDPOINT", "RECEIVED PACKETS", "RECEIVED BYTES", "DELIVERED PACKETS", "DELIVERED BYTES"],
            [
                (c.endpoint, c.received_packets, c.received_bytes, c.delivered_packets, c.delivered_bytes)
                for c in seen.counters
            ],
            title="Counters",
        )
        storms = [(c.endpoint, c.storm_dropped_packets) for c in seen.counters if c.storm_dropped_packets]
        if storms:
            line("")
            table(["ENDPOINT", "DROPPED PACKETS"], storms, title="Dropped by storm protection")
    if seen.constraint_counters is not None:
        line("")
        table(
            ["FROM", "TO", "RATE", "PACKETS", "BYTES", "DROPPED PACKETS", "DROPPED BYTES"],
            [
                (
                    c.source,
                    c.destination,
                    f"{Bandwidth(c.rate)} ({c.window:g} s)" if c.rate else "0",
                    c.packets,
                    c.bytes,
                    c.dropped_packets,
                    c.dropped_bytes,
                )
                for c in seen.constraint_counters
            ],
            title="Constraint counters",
        )


def _hops(path: Path) -> str:
    return " -> ".join(f"{h.in_port}:{h.switch}:{h.out_port}" for h in path.hops) or "no path"
