"""What happens to deployments of OVN, from the bug reports of their users: machines die, databases answer
late or are restored from a backup, other programs take interfaces and tunnel keys."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

import libnetvirt
from labs.ovn import OVN, Chassis
from libnetvirt import Bandwidth, Constraint, Limits, State, VirtualNetwork, formats
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.drivers.ovn.opened import OpenedDriver
from libnetvirt.errors import ConnectionFailed, EndpointClaimed, SubstrateError, SwitchTimeout, Unsupported
from libnetvirt.ovsdb import database
from tests.support.lab.wire import Wire
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.promised_times import crowd
from tests.support.unix_proxy import Proxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

A, B, C, D = (frames.mac(n) for n in (1, 2, 3, 4))
RATE = Bandwidth.parse("3 Mbit/s")
#: seconds that chassis have to confirm a change, where one of them is dead
CONFIRM = 4.0
CHASSIS, OPTIONS = 3, f"&confirm-timeout={CONFIRM}"


def _network(name: str, *places: str, **fields: object) -> VirtualNetwork:
    """A network with an endpoint at each place, such as ``ch1:p1`` or ``ch1:p1#20``."""
    ends = []
    for number, place in enumerate(places, 1):
        switch, _, port = place.partition(":")
        port, _, vlan = port.partition("#")
        ends.append(
            {"uuid": str(number), "switch": switch, "port": port, "vlan": int(vlan) if vlan else None}
        )
    return VirtualNetwork.model_validate({"name": name, "endpoints": ends, **fields})


def _drain(wire: Wire) -> list[bytes]:
    found = []
    while (frame := wire.receive()) is not None:
        found.append(frame)
    return found


def _passes(source: Wire, destination: Wire) -> bool:
    """Whether a broadcast frame arrives, sent again and again for some seconds."""
    frame = frames.marked(A, frames.BROADCAST, b"%f" % time.monotonic())
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        source.send(frame)
        time.sleep(0.02)
        if frame in _drain(destination):
            return True
    return False


class Flow:
    """Frames from one host to another, every 5 ms. At the end, ``lost`` says how many did not arrive."""

    def __init__(self, source: Wire, destination: Wire) -> None:
        self._source, self._destination = source, destination
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.sent = self.lost = 0

    def _frame(self, number: int) -> bytes:
        return frames.marked(A, frames.BROADCAST, b"flow %d" % number)

    def _send(self) -> None:
        while not self._over.wait(0.005):
            self._source.send(self._frame(self.sent))
            self.sent += 1

    def __enter__(self) -> Self:
        assert _passes(self._source, self._destination)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        missing = {self._frame(n) for n in range(self.sent)}
        deadline = time.monotonic() + 20
        while missing and time.monotonic() < deadline:
            missing.difference_update(_drain(self._destination))
            time.sleep(0.01)
        self.lost = len(missing)


def _die(chassis: Chassis) -> None:
    for daemon in (chassis.controller, chassis.switch, chassis.database):
        daemon.kill()


def _return(chassis: Chassis) -> None:
    chassis.database.start()
    chassis.switch.start()
    chassis._address()
    chassis.controller.start()


def _ids(chassis: Chassis) -> list[str]:
    return chassis.vsctl("--bare", "--columns=name", "find", "Interface", "external_ids:iface-id!=''").split()


def test_a_dead_machine_holds_up_nothing_elsewhere(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    reader = EventReader(connection)
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1", "ch3:p1"))
    red = connection.create(_network("red", "ch2:p2", "ch3:p2"))
    dead = lab.chassis["ch3"]
    _die(dead)
    try:
        with Flow(wires["ch1p1"], wires["ch2p1"]) as flow:
            # It is waited for once ...
            began = time.monotonic()
            blue.add_endpoint(uuid=4, switch="ch1", port="p2")
            assert time.monotonic() - began > CONFIRM
            eventually(lambda: "switch.silent" in reader.kinds(), "it is reported")
            measured = {one.name: dict(one.values) for one in connection.metrics()}
            states = {"connected": 2, "silent": 1, "disconnected": 0, "refused": 0}
            assert measured["netvirt_switches"] == {(state,): n for state, n in states.items()}
            assert measured["netvirt_switch_connected"] == {("ch1",): 1, ("ch2",): 1, ("ch3",): 0}
            assert measured["netvirt_networks"]["unconfirmed",] == 2
            states_now = connection._loop.run(connection.driver.states())
            assert states_now == {n.uuid: State.UNCONFIRMED for n in connection.descriptions()}
            red.remove()
            # ... and then by no session any more, whatever is changed elsewhere.
            with libnetvirt.open(f"{lab.uri}&confirm-timeout=60") as patient:
                began = time.monotonic()
                with pytest.raises(SwitchTimeout, match="chassis ch3 does not confirm changes"):
                    patient.lookup("blue").modify_endpoint(3, port="p2")
                patient.lookup("blue").modify_endpoint(3, switch="ch2", port="p2")
                assert time.monotonic() - began < 30
        assert flow.lost == 0, f"{flow.lost} of {flow.sent} frames"
        eventually(lambda: [n.name for n in connection.descriptions()] == ["blue"], "red is gone")
        assert _passes(wires["ch2p1"], wires["ch1p2"])
        assert _passes(wires["ch1p1"], wires["ch2p2"])
        eventually(lambda: blue.state().state is State.ACTIVE, "this client sees what the other has done")
        late = connection.create(_network("late", "ch3:p1#7"), pending=True)
        assert [(e.state, "ch3" in e.reason) for e in late.state().endpoints] != [(State.ACTIVE, False)]
        (note,) = [n for s in connection.substrate().switches if s.id == "ch3" for n in s.notes]
        assert "does not confirm changes" in note
        late.remove()
    finally:
        _return(dead)
    eventually(lambda: "switch.returned" in reader.kinds(), "it is back")
    eventually(lambda: not _ids(dead), "what was removed is removed there, too")
    assert red.uuid not in "".join(lab.sbctl("list", "Port_Binding"))
    blue.modify_endpoint(3, switch="ch3", port="p1")
    assert _passes(wires["ch1p1"], wires["ch3p1"])


def test_a_machine_that_dies_with_endpoints_is_shown_and_the_operation_there_is_undone_once(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1", "ch3:p1"))
    lab.chassis["ch3"].controller.kill()  # Open vSwitch goes on forwarding
    try:
        with Flow(wires["ch1p1"], wires["ch2p1"]) as flow:
            began = time.monotonic()
            with pytest.raises(SwitchTimeout, match="chassis ch3 did not confirm"):
                blue.add_endpoint(uuid=4, switch="ch3", port="p2")
            assert time.monotonic() - began < 2 * CONFIRM * crowd()
        assert flow.lost == 0
        assert len(blue.description().endpoints) == 3
        found = blue.state()
        assert found.state is State.UNCONFIRMED
        assert [e.state for e in found.endpoints] == [State.ACTIVE, State.ACTIVE, State.UNCONFIRMED]
        assert "chassis ch3 does not confirm changes" in found.endpoints[2].reason
        assert _passes(wires["ch1p1"], wires["ch3p1"])
    finally:
        lab.chassis["ch3"].controller.start()
    eventually(lambda: blue.state().state is State.ACTIVE, "it confirms again")


def test_foreign_iface_ids_are_named_and_repaired_or_refused(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    reader = EventReader(connection)
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1"))
    chassis = lab.chassis["ch1"]
    run_ = [NETVIRT, "-c", lab.uri, "repair"]

    def taken() -> bool:
        state = blue.state()
        return state.state is not State.ACTIVE and "iface-id 'vm7'" in state.endpoints[0].reason

    chassis.vsctl("set", "Interface", "p1", "external_ids:iface-id=vm7")
    eventually(taken, "it is named")
    assert any("vm7" in line for line in blue.state().drift)
    reader.await_kinds("network.drift")
    done = subprocess.run(run_, capture_output=True, text=True, check=True).stdout
    assert "network blue: repaired: interface p1 of chassis ch1 has the iface-id 'vm7'" in done
    eventually(lambda: blue.state().state is State.ACTIVE, "it is ours again")
    assert _passes(wires["ch1p1"], wires["ch2p1"])

    # Without the driver's mark, it belongs to the other program.
    chassis.vsctl("clear", "Interface", "p1", "external_ids", "--",
                  "set", "Interface", "p1", "external_ids:iface-id=vm7")  # fmt: skip
    eventually(taken, "it is named")
    with pytest.raises(SubstrateError, match="cannot repair: interface p1 of chassis ch1 has the iface-id"):
        connection.repair("blue")
    refused = subprocess.run(run_, capture_output=True, text=True, check=False)
    assert refused.returncode == 7
    assert "vm7" in refused.stderr
    # When it has given the interface up, a session that is in charge sets ours again.
    chassis.vsctl("clear", "Interface", "p1", "external_ids")
    eventually(lambda: blue.state().state is State.ACTIVE, "it is ours again")
    assert _passes(wires["ch1p1"], wires["ch2p1"])
    # An iface-id that an earlier description of ours left behind is no foreign one.
    blue.remove()
    chassis.vsctl(
        "set", "Interface", "p1", "external_ids:iface-id=old:p1", "external_ids:netvirt\\:owner=libnetvirt"
    )
    eventually(
        lambda: any("unused iface-id on p1" in note for note in connection.substrate().notes), "it is seen"
    )
    connection.create(_network("blue", "ch1:p1", "ch2:p1"))
    assert _passes(wires["ch1p1"], wires["ch2p1"])


@pytest.mark.alone
def test_a_limit_that_vxlan_does_not_carry_is_refused_and_never_active(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    limit = Constraint(source="1", destination="2", max_bandwidth=RATE)
    places = _network("limited", "ch1:p1", "ch2:p1").endpoints
    ends = tuple(e.changed(mac=(mac,)) for e, mac in zip(places, (A, B), strict=True))
    limited = connection.create(VirtualNetwork(name="limited", endpoints=ends, constraints=(limit,)))
    assert _throughput(wires["ch1p1"], wires["ch2p1"]) < 1.1 * RATE

    def encapsulate(kind: str) -> None:
        for name in ("ch1", "ch2"):
            lab.chassis[name].vsctl("set", "Open_vSwitch", ".", f"external_ids:ovn-encap-type={kind}")
        eventually(
            lambda: any(
                (link.source, link.destination) == ("ch1", "ch2") and link.source_port.startswith(kind)
                for link in connection.substrate().links
            ),
            f"the tunnel is {kind}",
        )

    encapsulate("vxlan")
    try:
        assert _passes(wires["ch1p1"], wires["ch2p1"])
        (state,) = limited.state().constraints
        assert state.state is State.DEGRADED
        assert "VXLAN" in state.reason
        # If OVN enforces it after all, there is nothing to refuse.
        assert _throughput(wires["ch1p1"], wires["ch2p1"]) > 1.5 * RATE
        with pytest.raises(Unsupported, match="max-bandwidth: chassis ch1 and ch2 are joined by VXLAN"):
            limited.modify_constraint("1", "2", max_bandwidth="2 Mbit/s")
        limited.remove_constraint("1", "2")
        limited.modify_endpoint("2", bandwidth=Limits(outbound=RATE))
        assert _throughput(wires["ch1p1"], wires["ch2p1"]) < 1.1 * RATE
        limited.modify_endpoint("2", bandwidth=None)
        limited.modify_endpoint("1", bandwidth=Limits(inbound=RATE))
        assert _throughput(wires["ch1p1"], wires["ch2p1"]) < 1.1 * RATE
    finally:
        encapsulate("geneve")


def _throughput(source: Wire, destination: Wire) -> float:
    """Offer four times RATE for a second; bit/s that arrive, until the last one."""
    size, seconds = 1000, 1.0
    frame = frames.ethernet(A, B, frames.EXPERIMENT, bytes(size))
    _drain(destination)
    began, sent, arrived, took = time.monotonic(), 0, 0, seconds
    while (now := time.monotonic()) < began + seconds + 0.2:
        while sent * size * 8 < min(now - began, seconds) * 4 * RATE:
            source.send(frame)
            sent += 1
        if found := sum(len(f) > size for f in _drain(destination)):
            arrived, took = arrived + found, max(seconds, time.monotonic() - began)
        time.sleep(0.002)
    return arrived * size * 8 / took


def test_a_slow_southbound_database_is_waited_for_as_long_as_the_user_says(
    lab: OVN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limits for everything else: a real deployment takes longer than these.
    monkeypatch.setattr(database, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(database, "ROWS_TIMEOUT", 0.3)
    target = Path(lab.southbound.remotes.removeprefix("unix:"))
    uri = lab.uri.replace(str(target), str(tmp_path / "sb.sock")) + "&probe=0.5"
    with Proxy(tmp_path / "sb.sock", target) as proxy:
        proxy.stall(b'"OVN_Southbound","rows"', 3.0)
        with libnetvirt.open(f"{uri}&connect-timeout=60") as connection:
            assert len(connection.substrate().switches) == 3
        with pytest.raises(ConnectionFailed, match="OVN_Southbound"):
            libnetvirt.open(f"{uri}&connect-timeout=2")


def test_rows_of_others_are_not_read(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1"))
    lab.nbctl("--wait=sb", "ls-add", "theirs", "--", "lsp-add", "theirs", "t1")
    try:
        key = lab.sbctl("--bare", "--columns=tunnel_key", "find", "Datapath_Binding",
                        "external_ids:name=theirs").strip()  # fmt: skip
        lab.sbctl(*_more_hosts(key, 200))
        wires["ch1p1"].send(frames.marked(A, frames.BROADCAST, b"I am A"))
        with libnetvirt.open(lab.uri) as other:
            eventually(lambda: [h.mac for h in other.lookup("blue").state().hosts] == [A], "A is known")
            driver = other.driver
            assert isinstance(driver, OpenedDriver)
            tables = driver._southbound.db.tables
            assert [row["mac"] for row in tables["FDB"].values()] == [A]
            assert len(tables["Datapath_Binding"]) == len(tables["Port_Binding"]) - 1 == 1
            # A network of another client that comes later is seen, too.
            connection.create(_network("red", "ch1:p2", "ch2:p2"))
            wires["ch1p2"].send(frames.marked(B, frames.BROADCAST, b"I am B"))
            eventually(lambda: "red" in [n.name for n in other.descriptions()], "red is known")
            eventually(lambda: [h.mac for h in other.lookup("red").state().hosts] == [B], "B is known")
        eventually(lambda: [h.mac for h in blue.state().hosts] == [A], "A is known")
    finally:
        lab.nbctl("ls-del", "theirs")


def _more_hosts(key: str, count: int) -> list[str]:
    words = []
    for n in range(count):
        mac = f"06:00:00:00:{n >> 8:02x}:{n & 255:02x}".replace(":", "\\:")
        words += ["--", "create", "FDB", f"mac={mac}", f"dp_key={key}", "port_key=1"]
    return words[1:]


def test_commands_that_read_write_nothing(lab: OVN, wires: dict[str, Wire]) -> None:
    with libnetvirt.open(lab.uri) as connection:
        blue = connection.create(_network("blue", "ch1:p1", "ch2:p1"))
        wires["ch1p1"].send(frames.marked(A, frames.BROADCAST, b"I am A"))
        eventually(lambda: blue.state().hosts, "a host is known")
    # Something to be done: an interface without its iface-id, which a session in charge would set.
    lab.chassis["ch2"].vsctl("clear", "Interface", "p1", "external_ids")
    up = ("--bare", "--columns=up", "find", "Logical_Switch_Port", "name=ch2\\:p1")
    eventually(lambda: lab.nbctl(*up).strip() == "false", "OVN has noticed it")
    lab.nbctl("--wait=hv", "sync")

    def written() -> list[int]:
        # A database server appends every transaction to its file.
        servers = (lab.northbound.servers[0], lab.southbound.servers[0])
        return [Path(server._directory, "db").stat().st_size for server in servers]

    before = written()
    for words in (["list"], ["show", "blue"], ["substrate"]):
        subprocess.run([NETVIRT, "-c", lab.uri, *words], capture_output=True, check=True)
    assert written() == before
    assert _ids(lab.chassis["ch2"]) == []
    served = Served(uri=lab.uri)
    served.start()  # is in charge
    try:
        eventually(lambda: _ids(lab.chassis["ch2"]) == ["p1"], "the server sets it")
    finally:
        served.stop()
    with libnetvirt.open(lab.uri) as connection:
        connection.lookup("blue").remove()


def test_a_restored_database_is_noticed_and_confirms_nothing_by_its_old_numbers(
    lab: OVN, connection: libnetvirt.Connection, tmp_path: Path, wires: dict[str, Wire]
) -> None:
    reader = EventReader(connection)
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1"))
    server = lab.northbound.servers[0]
    file = Path(server._directory, "db")
    shutil.copy(file, tmp_path / "backup")
    wanted = connection.create(_network("red", "ch1:p2", "ch2:p2")).description()
    lab.northd.kill()
    server.kill()
    shutil.copy(tmp_path / "backup", file)
    server.start()
    try:
        eventually(lambda: "database.restored" in reader.kinds(), "it is noticed")
        eventually(
            lambda: any("unused iface-id on p2" in note for note in connection.substrate().notes), "and told"
        )
        with libnetvirt.open(f"{lab.uri}&confirm-timeout=1") as hasty:
            assert any("older copy" in note for note in hasty.substrate().notes)
            # All chassis have reported higher numbers, long ago.
            with pytest.raises(SwitchTimeout, match="ovn-northd did not confirm"):
                hasty.create(wanted)
            with pytest.raises(SwitchTimeout, match="ovn-northd did not confirm"):
                hasty.lookup("blue").remove()
    finally:
        lab.northd.start()
    eventually(lambda: [n.name for n in connection.descriptions()] == ["blue"], "both are undone")
    connection.apply_all([blue.description(), wanted])
    assert connection.lookup("red").state().state is State.ACTIVE
    assert _passes(wires["ch1p2"], wires["ch2p2"])


def test_endpoints_follow_a_chassis_that_is_renamed(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    def rename(chassis: str, key: str, name: str) -> None:
        one = lab.chassis[chassis]
        if key == "system-id":  # else OVN keeps the chassis of the old name, which has the tunnel address
            one.controller.leave()
        one.vsctl("set", "Open_vSwitch", ".", f"external_ids:{key}={name}")
        if not one.controller.running:
            one.controller.start()
        eventually(
            lambda: any(name in (s.id, s.description.split()[-1]) for s in seen().switches),
            f"{chassis} is called {name}",
        )

    seen = connection.substrate
    rename("ch1", "hostname", "node1")
    rename("ch2", "hostname", "node2")
    blue = connection.create(_network("blue", "node1:p1", "ch2:p1"))
    try:
        rename("ch1", "hostname", "node9")
        rename("ch2", "system-id", "two")
        connection.repair("blue")
        eventually(lambda: blue.state().state is State.ACTIVE, str(blue.state()))
        assert blue.state().drift == ()
        assert _passes(wires["ch1p1"], wires["ch2p1"])
        for other in ("node9:p1", "ch1:p1", "two:p1", "node2:p1"):
            with pytest.raises(EndpointClaimed):
                connection.create(_network("red", other))
        # An endpoint that is described by the new name does not hide the chassis from the older ones.
        connection.create(_network("red", "two:p2")).remove()
        assert blue.state().state is State.ACTIVE
        # Described by the new names, the interfaces are still the driver's own.
        blue.remove()
        blue = connection.create(_network("blue", "node9:p1", "two:p1"))
        assert _passes(wires["ch1p1"], wires["ch2p1"])
        blue.remove()
    finally:
        rename("ch2", "system-id", "ch2")
        for name in ("ch1", "ch2"):
            lab.chassis[name].vsctl("remove", "Open_vSwitch", ".", "external_ids", "hostname")
        eventually(lambda: {s.id for s in seen().switches} == {"ch1", "ch2", "ch3"}, "all have their names")


def test_a_tunnel_key_that_another_program_takes_is_reported(
    lab: OVN, connection: libnetvirt.Connection, wires: dict[str, Wire]
) -> None:
    reader = EventReader(connection)
    blue = connection.create(_network("blue", "ch1:p1", "ch2:p1"))
    assert _passes(wires["ch1p1"], wires["ch2p1"])
    (key,) = lab.sbctl("--bare", "--columns=tunnel_key", "find", "Datapath_Binding",
                       f"external_ids:name=netvirt-{blue.uuid}").split()  # fmt: skip
    lab.nbctl(
        "ls-add", "thief", "--", "set", "Logical_Switch", "thief", f"other_config:requested-tnl-key={key}"
    )
    try:
        eventually(lambda: "network.rekeyed" in reader.kinds(), "it is reported")
        (event,) = [e for e in list(reader.events) if e.kind == "network.rekeyed"]
        assert event.network == blue.uuid
        assert f"network blue from tunnel key {key} to" in event.message
        assert _passes(wires["ch1p1"], wires["ch2p1"])

        def learned() -> bool:
            # A frame that meets the change is lost.
            wires["ch1p1"].send(frames.marked(C, frames.BROADCAST, b"I am C"))
            return C in [h.mac for h in blue.state().hosts]

        eventually(learned, "hosts are learned under the new key")
    finally:
        lab.nbctl("ls-del", "thief")


def test_networks_swap_endpoints_and_are_created_at_the_same_time(
    lab: OVN, connection: libnetvirt.Connection, tmp_path: Path, wires: dict[str, Wire]
) -> None:
    many = [_network(f"n{n}", f"ch1:p1#{n}", f"ch2:p1#{n}", f"ch3:p1#{n}") for n in range(2, 14)]
    told: list[str] = []
    connection.create_all(many, done=lambda applied: told.append(applied.name))
    assert told == [n.name for n in many]
    assert {n.state().state for n in connection.networks()} == {State.ACTIVE}
    # Both documents change which of the two ports of ch2 they have.
    for turn, ends in enumerate((("p1", "p2"), ("p2", "p1"), ("p1", "p2"))):
        wanted = [_network(f"x{n}", f"ch1:p{n}", f"ch2:{end}", uuid=n) for n, end in enumerate(ends, 1)]
        if turn < 2:
            connection.apply_all(wanted)
        else:
            file = tmp_path / "both.yaml"
            file.write_text(formats.write(wanted[::-1], "yaml"))
            command = [NETVIRT, "-c", lab.uri, "apply", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        assert _passes(wires["ch1p1"], wires[f"ch2{ends[0]}"])
        assert _passes(wires["ch1p2"], wires[f"ch2{ends[1]}"])
        assert connection.lookup("n2").state().state is State.ACTIVE
    connection.remove_all([n.name for n in many], done=lambda gone: told.append(gone.uuid))
    assert len(told) == 2 * len(many)
