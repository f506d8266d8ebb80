"""Networks on OVN: created (compared with the floor, and until every chassis confirms), changed and removed.

Users run ``netvirt serve`` and ask it through its socket, and so does this scenario. The floor is the time
that the same OVN needs for the same rows without libnetvirt: our rows are dumped, and created in one
transaction by a resident ``ovn-nbctl``, a client in C. It is asked through its control socket, so that no
process is started, and parses the rows from the words of its command. It has a copy of the database, as
libnetvirt has.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import libnetvirt
from benchmarks import peers
from benchmarks.rows import Plan, Row
from benchmarks.workers import Failed
from labs.daemons import eventually
from labs.ovn import OVN, why_not
from libnetvirt import VirtualNetwork
from tests.support.lab import private_network_namespace

FLOOR = "resident ovn-nbctl --wait=sb"
BAR = 1.2
#: Numbers of bound ports. Most of OVN's own work grows faster than the number of ports of a switch.
_BOUND = (10, 100, 1000)
_PARTS = {"ports": "Logical_Switch_Port", "acls": "ACL"}


def network(ports: int, switch: str = "nowhere") -> VirtualNetwork:
    """A network of ``ports`` ports, by default on a chassis that does not exist."""
    ends = [{"uuid": n, "switch": switch, "port": f"b{n}"} for n in range(1, ports + 1)]
    return VirtualNetwork.model_validate({"name": f"bench{ports}", "endpoints": ends})


def rows(plan: Plan) -> list[Row]:
    """Creation and removal compared with the floor, one port added, ports bound by chassis; by the number of
    ports."""
    if reason := why_not():
        plan.skip(f"ovn: {reason}")
        return []
    private_network_namespace()
    counts = (10,) if plan.smoke else (10, 100) if plan.quick else (10, 100, 1000)
    found: list[Row] = []
    with (
        OVN(2, 0) as lab,
        resident_nbctl(lab) as floor,
        peers.netvirt_serve(lab.uri, core=None) as (address, _),
        libnetvirt.open(address) as connection,
    ):
        try:
            for ports in counts:
                if plan.late(f"ovn: {ports} ports"):
                    continue
                plan.say(f"ovn: {ports} ports")
                repeats = 1 if plan.smoke else 3 if plan.quick else 5
                found += _beside_floor(lab, floor, connection, ports, repeats)
            found += [] if plan.late("ovn: one more endpoint") else _one_more(connection, counts)
            for ports in () if plan.smoke else (10,) if plan.quick else _BOUND:
                if plan.late(f"ovn: {ports} ports on two chassis"):
                    continue
                plan.say(f"ovn: {ports} ports on two chassis")
                found.append(_bound(lab, connection, ports))
        except (Failed, RuntimeError) as error:
            plan.fail(f"ovn: {error}")
    return found


#: Runs a command of ovn-nbctl, given as words, and blocks until it is done.
Floor = Callable[[list[str]], str]


@contextmanager
def resident_nbctl(lab: OVN) -> Iterator[Floor]:
    """A resident ovn-nbctl, which keeps its copy of the northbound database; yields a function that has it
    run a command."""
    control, pidfile = lab.directory / "nbctl.ctl", lab.directory / "nbctl.pid"
    options = [f"--db={lab.northbound.remotes}", "--no-leader-only", f"--unixctl={control}"]
    subprocess.run(
        ["ovn-nbctl", *options, f"--pidfile={pidfile}", "--detach", "-vconsole:off", "-vsyslog:off"],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield partial(_ask, control, "run")
    finally:
        _ask(control, "exit", [])


def _ask(control: Path, method: str, words: list[str]) -> str:
    """Call a method of a daemon through its control socket (JSON-RPC). Raises Failed if it refuses."""
    answer = b""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(60)
        wire.connect(str(control))
        wire.sendall(json.dumps({"id": 0, "method": method, "params": words}).encode())
        while data := wire.recv(1 << 16):
            answer += data
            try:
                said = json.loads(answer)
            except ValueError:
                continue
            if said["error"]:
                raise Failed(f"ovn-nbctl: {said['error'][:500]}")
            return str(said["result"])
    if method == "exit":
        return ""
    raise Failed(f"ovn-nbctl ended during {' '.join(words)[:100]}")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _beside_floor(
    lab: OVN, floor: Floor, connection: libnetvirt.Connection, ports: int, repeats: int
) -> Iterator[Row]:
    wanted = network(ports)
    times: dict[str, list[float]] = {}
    wait = ["--wait=sb", "--timeout=60", "--"]
    command: list[str] = []
    delete: list[str] = []
    rows: dict[str, int] = {}
    for _ in range(repeats):
        times.setdefault("create", []).append(_timed(lambda: connection.create(wanted, pending=True)))
        if not command:
            command = _command(lab)
            (switch,) = _dump(lab, "Logical_Switch")
            delete, rows = [*wait, "ls-del", switch["name"]], _rows(lab)
        times.setdefault("remove", []).append(_timed(connection.lookup(wanted.name).remove))
        times.setdefault("floor create", []).append(_timed(partial(floor, [*wait, *command])))
        if (made := _rows(lab)) != rows:
            raise Failed(f"the floor made {made} rows instead of {rows}")
        # libnetvirt reads the floor's rows as a network; it must have done so before they go.
        eventually(lambda: connection.descriptions(), "the floor's network is listed")
        times.setdefault("floor remove", []).append(_timed(partial(floor, delete)))
        eventually(lambda: not connection.descriptions(), "the floor's network is not listed any more")
        if left := sum(_rows(lab).values()):
            raise Failed(f"the floor left {left} rows behind")
    at = {"ports": float(ports)}
    for name in ("create", "remove"):
        what = f"{name} a network, until sb_cfg"
        row = Row.of("ovn", what, at, "s", times[name], times[f"floor {name}"], FLOOR)
        yield row.at_most_times(BAR, "floor")


def _rows(lab: OVN) -> dict[str, int]:
    """The number of rows in each table."""
    return {table: len(_dump(lab, table)) for table in ("Logical_Switch", *_PARTS.values())}


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
        yield Row.of("ovn", "add one endpoint, until sb_cfg", {"ports": ports}, "s", times)


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
    times = []
    for _ in range(3 if ports < max(_BOUND) else 1):
        times.append(_timed(lambda: connection.create(wanted)))
        connection.lookup(wanted.name).remove()
    for chassis in lab.chassis.values():
        mine = [e.port for e in ends if e.switch == chassis.name]
        chassis.vsctl(*[w for p in mine for w in ("--", "del-port", "br-int", p)][1:])
    return Row.of("ovn", "create a network, until two chassis have its rules", {"ports": ports}, "s", times)


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
