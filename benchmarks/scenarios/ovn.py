"""Networks on OVN: created (compared with the floor, and until every chassis confirms), changed and removed.

The floor is the time that the same OVN needs for the same rows without libnetvirt: our rows are dumped, and
created in one transaction of `ovn-nbctl --wait=sb`, a client in C. It parses them from its command line.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import libnetvirt
from benchmarks.rows import Plan, Row
from labs.daemons import eventually
from labs.ovn import OVN, why_not
from libnetvirt import VirtualNetwork
from tests.support.lab import private_network_namespace

FLOOR = "ovn-nbctl --wait=sb"
BAR = 1.2
#: Numbers of bound ports. Most of OVN's own work grows faster than the number of ports of a switch.
_BOUND = (10, 100, 1000)
_PARTS = {"ports": "Logical_Switch_Port", "acls": "ACL"}


def network(ports: int, switch: str = "nowhere") -> VirtualNetwork:
    """A network of ``ports`` ports, by default on a chassis that does not exist."""
    ends = [{"uuid": n, "switch": switch, "port": f"b{n}"} for n in range(1, ports + 1)]
    return VirtualNetwork.model_validate({"name": f"bench{ports}", "endpoints": ends})


def rows(plan: Plan) -> list[Row]:
    """Creation compared with the floor, one port added, ports bound by chassis; by the number of ports."""
    if reason := why_not():
        plan.say(f"ovn: {reason}")
        return []
    private_network_namespace()
    counts = (10, 100) if plan.quick else (10, 100, 1000)
    with OVN(2, 0) as lab, libnetvirt.open(lab.uri) as connection:
        found: list[Row] = []
        for ports in counts:
            plan.say(f"ovn: {ports} ports")
            found += _beside_floor(lab, connection, ports, 3 if plan.quick else 7)
        found += _one_more(connection, counts)
        for ports in (10,) if plan.quick else _BOUND:
            plan.say(f"ovn: {ports} ports on two chassis")
            found.append(_bound(lab, connection, ports))
        return found


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _beside_floor(lab: OVN, connection: libnetvirt.Connection, ports: int, repeats: int) -> Iterator[Row]:
    wanted = network(ports)
    times: dict[str, list[float]] = {}
    command: list[str] = []
    for _ in range(repeats):
        times.setdefault("create", []).append(_timed(lambda: connection.create(wanted, pending=True)))
        if not command:
            command = _command(lab)
        times.setdefault("remove", []).append(_timed(connection.lookup(wanted.name).remove))
        times.setdefault("floor", []).append(_timed(partial(_run, lab, command)))
        # The connection reads the rows that ovn-nbctl created as a network.
        eventually(lambda: connection.descriptions(), "the floor's network is listed")
        connection.lookup(wanted.name).remove()
    create, remove, floor = (median(times[name]) for name in ("create", "remove", "floor"))
    at = {"ports": float(ports)}
    row = Row("ovn", "create a network, until sb_cfg", at, "s", create, floor, FLOOR, floor / create)
    row.bar, row.holds = f"time ≤ {BAR}× baseline", create <= BAR * floor
    row.measured = {name: sorted(some) for name, some in times.items()}
    yield row
    yield Row("ovn", "remove a network, until sb_cfg", at, "s", remove)


def _one_more(connection: libnetvirt.Connection, counts: tuple[int, ...]) -> Iterator[Row]:
    for ports in counts:
        made = connection.create(network(ports), pending=True)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            made.add_endpoint(uuid=ports + 1, switch="nowhere", port="more", pending=True)
            times.append(time.perf_counter() - began)
            made.remove_endpoint(ports + 1)
        made.remove()
        yield Row("ovn", "add one endpoint, until sb_cfg", {"ports": ports}, "s", median(times))


def _bound(lab: OVN, connection: libnetvirt.Connection, ports: int) -> Row:
    """Create a network on real interfaces, until both chassis have all flows."""
    wanted = network(ports)
    ends = [e.changed(switch=f"ch{n % 2 + 1}") for n, e in enumerate(wanted.endpoints)]
    wanted = wanted.changed(endpoints=tuple(ends))
    for chassis in lab.chassis.values():
        mine = [e.port for e in ends if e.switch == chassis.name]
        words = (w for p in mine for w in ("--", "add-port", "br-int", p, "--", "set", "Interface", p,
                                           "type=internal"))  # fmt: skip
        chassis.vsctl(*list(words)[1:])
    eventually(lambda: len(_interfaces(connection)) >= ports, "the interfaces are seen")
    took = _timed(lambda: connection.create(wanted))
    connection.lookup(wanted.name).remove()
    for chassis in lab.chassis.values():
        mine = [e.port for e in ends if e.switch == chassis.name]
        chassis.vsctl(*[w for p in mine for w in ("--", "del-port", "br-int", p)][1:])
    return Row("ovn", "create a network, until two chassis have its rules", {"ports": ports}, "s", took)


def _interfaces(connection: libnetvirt.Connection) -> list[str]:
    return [p.name for s in connection.substrate().switches for p in s.ports if p.name.startswith("b")]


def _command(lab: OVN) -> list[str]:
    """The arguments of ovn-nbctl that create the current rows in one transaction."""
    words: list[str] = []
    names: dict[str, str] = {}
    for table in _PARTS.values():
        for number, row in enumerate(_dump(lab, table)):
            names[row.pop("_uuid")] = name = f"@{table.lower()}{number}"
            words += ["--", f"--id={name}", "create", table, *_columns(row)]
    (switch,) = _dump(lab, "Logical_Switch")
    del switch["_uuid"]
    for column in _PARTS:
        held = switch[column] if isinstance(switch[column], list) else [switch[column]]
        switch[column] = [names[uuid] for uuid in held]
    return [*words[1:], "--", "create", "Logical_Switch", *_columns(switch)]


def _dump(lab: OVN, table: str) -> list[dict[str, Any]]:
    """The rows of a table as scalars, lists and dictionaries, without empty values."""
    listed = json.loads(lab.nbctl("--format=json", "list", table))
    found = []
    for line in listed["data"]:
        row = {name: _plain(value) for name, value in zip(listed["headings"], line, strict=True)}
        unset: tuple[Any, ...] = ("", [], {}, False, 0)
        found.append({k: v for k, v in row.items() if v not in unset and k not in ("up", "label")})
    return found


def _plain(value: Any) -> Any:
    match value:
        case ["uuid", uuid]:
            return uuid
        case ["set", members]:
            return [_plain(m) for m in members]
        case ["map", members]:
            return dict(members)
    return value


def _columns(row: dict[str, Any]) -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from (f"{name}:{json.dumps(k)}={json.dumps(v)}" for k, v in value.items())
        elif isinstance(value, list):
            yield f"{name}={','.join(v if v.startswith('@') else json.dumps(v) for v in value)}"
        else:
            yield f"{name}={json.dumps(value) if isinstance(value, str) else value}"


def _run(lab: OVN, words: list[str]) -> None:
    nbctl = shutil.which("ovn-nbctl")
    assert nbctl is not None
    head = [nbctl, f"--db={lab.northbound.remotes}", "--no-leader-only", "--wait=sb", "--timeout=60"]
    subprocess.run([*head, *words], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
