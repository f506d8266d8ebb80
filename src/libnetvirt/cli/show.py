"""``show``: everything about one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

import libnetvirt
from libnetvirt import VirtualNetwork
from libnetvirt.cli.options import Connect, Format, NetworkName, Output, chosen, connected
from libnetvirt.cli.output import document, line, pairs, table
from libnetvirt.driver import Capabilities
from libnetvirt.model import Bandwidth, ConstraintCounters, Counters, NetworkState, Path

# Every pair of endpoints has a path: beyond this many endpoints the table would bury the rest.
_FEW = 12


@dataclass
class _Picture:
    description: VirtualNetwork
    state: NetworkState
    capabilities: Capabilities
    paths: Sequence[Path] | None
    counters: Sequence[Counters] | None
    promised: Sequence[ConstraintCounters] | None


def show(
    ctx: typer.Context,
    network: NetworkName,
    all_paths: Annotated[
        bool, typer.Option("--paths", help="Show the paths of a network with many endpoints too.")
    ] = False,
    connect: Connect = None,
    output: Output = None,
) -> None:
    """Show all about one network.

    Endpoints with state and reason, known hosts, paths, counters, the MTU of its hosts. With constraints it
    takes a second, in which their rates are measured.

    \b
    Examples:
      netvirt show blue
      netvirt show 7 --format json
    """
    wanted = chosen(ctx, output)
    with connected(ctx, connect) as connection:
        everything = all_paths or wanted is not Format.TABLE
        seen = _look(connection, connection.lookup(network), everything)
    if wanted is Format.TABLE:
        _print(seen)
        return
    result: dict[str, Any] = {
        "description": seen.description.model_dump(mode="json", by_alias=True, exclude_none=True)
    }
    result |= {"state": seen.state.to_json()}
    if seen.paths is not None:
        result["paths"] = [path.to_json() for path in seen.paths]
    if seen.counters is not None:
        result["statistics"] = [counters.to_json() for counters in seen.counters]
    if seen.promised is not None:
        result["constraint-statistics"] = [counters.to_json() for counters in seen.promised]
    document(result, wanted)


def _look(connection: libnetvirt.Connection, network: libnetvirt.Network, everything: bool) -> _Picture:
    capabilities = connection.capabilities()
    description = network.description()
    few = everything or len(description.endpoints) <= _FEW
    return _Picture(
        description,
        network.state(),
        capabilities,
        network.paths() if few and "paths" in capabilities.features else None,
        network.statistics() if "statistics" in capabilities.features else None,
        network.constraint_statistics()
        if description.constraints and "constraint.statistics" in capabilities.features
        else None,
    )


def _print(seen: _Picture) -> None:
    description, state = seen.description, seen.state
    rules = seen.capabilities.resolve(description.rules)
    chosen_rules = [str(part) for part in (rules.encapsulation, rules.insertion, rules.timeout) if part]
    pairs(
        [
            ("name", description.name),
            ("uuid", description.uuid),
            ("forwarding", description.forwarding),
            ("state", state.state),
            ("mtu", state.mtu or "not known"),
            ("rules", "/".join(chosen_rules) or "the driver's"),
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
                states[e.uuid].state if e.uuid in states else "not known",
                ", ".join(map(str, e.address)) or "-",
                (states[e.uuid].reason if e.uuid in states else "") or "-",
            )
            for e in description.endpoints
        ],
        title="Endpoints",
    )
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
    _print_traffic(seen)


def _print_traffic(seen: _Picture) -> None:
    if seen.paths is not None:
        line("")
        table(
            ["FROM", "TO", "HOPS"],
            [(p.source, p.destination, _hops(p)) for p in seen.paths],
            title="Paths",
        )
    elif "paths" in seen.capabilities.features:
        line("")
        line("Paths: many; --paths shows them")
    if seen.counters is not None:
        line("")
        table(
            ["ENDPOINT", "RECEIVED PACKETS", "OCTETS", "DELIVERED PACKETS", "OCTETS"],
            [
                (c.endpoint, c.received_packets, c.received_bytes, c.delivered_packets, c.delivered_bytes)
                for c in seen.counters
            ],
            title="Counters",
        )
    if seen.promised is not None:
        line("")
        table(
            ["FROM", "TO", "RATE", "PACKETS", "OCTETS", "DROPPED PACKETS", "OCTETS"],
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
                for c in seen.promised
            ],
            title="Constraint counters",
        )


def _hops(path: Path) -> str:
    return " -> ".join(f"{h.in_port}:{h.switch}:{h.out_port}" for h in path.hops) or "none"
