"""Faults around the ovn driver: a killed leader, connections that break within a transaction, northd and
chassis that stop, foreign changes of rows, rejected transactions."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import libnetvirt
from labs.ovn import OVN
from libnetvirt import Bandwidth, Endpoint, Limits, State, VirtualNetwork
from libnetvirt.conformance.support.stream import EventReader, Stream
from libnetvirt.conformance.support.testbed import Testbed
from libnetvirt.drivers.ovn.opened import OpenedDriver
from libnetvirt.drivers.ovn.transactions import Transactions
from libnetvirt.errors import EndpointClaimed, PortNotFound, RuleRefused, SwitchTimeout, Unsupported
from libnetvirt.ovsdb.database import Operation
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.ovn_harness import Ovn, need_ovn, rows
from tests.support.promised_times import crowd
from tests.support.unix_proxy import Proxy
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

#: seconds within which writes go on after the leader is gone
RESUMED = 3.0


def _pair(name: str, vlan: int | None = None, port: str = "p1") -> VirtualNetwork:
    ends = (Endpoint(uuid=str(n), switch=f"ch{n}", port=port, vlan=vlan) for n in (1, 2))
    return VirtualNetwork(name=name, endpoints=tuple(ends))


def test_writes_continue_when_the_leader_is_killed_without_loss_or_duplicates(
    private_namespace: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[tuple[float, float]] = []
    commit = Transactions.commit

    async def timed(self: Transactions, plan: Callable[[], Sequence[Operation]]) -> int:
        began = time.monotonic()
        number = await commit(self, plan)
        written.append((began, time.monotonic()))
        return number

    monkeypatch.setattr(Transactions, "commit", timed)
    need_ovn()
    over = threading.Event()
    # northd finds the new leader by itself, and takes its time: an operation waits for it.
    with OVN(1, 1, cluster=3) as lab, libnetvirt.open(f"{lab.uri}&confirm-timeout=60") as connection:

        def write(first: int) -> list[str]:
            names = []
            for number in itertools.count(first, 4):
                if over.is_set():
                    break
                end = Endpoint(uuid="1", switch="nowhere", port=f"p{number}")
                wanted = VirtualNetwork(name=f"n{number}", endpoints=(end,))
                names.append(connection.create(wanted, pending=True).description().name)
            return names

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, first) for first in range(4)]
            try:
                eventually(lambda: len(written) > 10, "it writes")
                killed = time.monotonic()
                lab.northbound.servers[lab.northbound.leader()].kill()
                eventually(lambda: written[-1][0] > killed + RESUMED, "it goes on", 60)
            finally:
                over.set()
            names = [name for one in writing for name in one.result()]
        longest = max(b - a for a, b in written)
        print(f"{len(names)} networks, longest write {longest:.2f} s")
        assert longest < RESUMED * crowd()
        assert sorted(n.name for n in connection.descriptions()) == sorted(names)
        stored = lab.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split()
        assert sorted(stored) == sorted(f"nowhere:p{name.removeprefix('n')}" for name in names)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("what", ["create", "change", "remove"])
def test_an_operation_whose_session_breaks_is_applied_once(
    lab: OVN, tmp_path: Path, connection: libnetvirt.Connection, what: str, before: bool
) -> None:
    target = Path(lab.northbound.remotes.removeprefix("unix:"))
    uri = lab.uri.replace(str(target), str(tmp_path / "nb.sock"))
    with Proxy(tmp_path / "nb.sock", target) as proxy, libnetvirt.open(uri) as through:
        wanted = _pair("once")
        if what != "create":
            through.create(wanted)
        proxy.lose(b'"transact"', before=before)
        if what == "create":
            through.create(wanted)
        elif what == "change":
            through.lookup("once").add_endpoint(uuid=3, switch="ch1", port="p2")
        else:
            through.lookup("once").remove()
        assert proxy.lost == 1
        eventually(lambda: through.descriptions() == connection.descriptions(), "both see the same")
        names = [e.uuid for n in connection.descriptions() for e in n.endpoints]
        assert names == {"create": ["1", "2"], "change": ["1", "2", "3"], "remove": []}[what]
        assert len(rows(lab)) == {"create": 3, "change": 4, "remove": 0}[what]


def test_without_northd_an_operation_is_undone_with_the_reason(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    connection.create(_pair("before"))
    with libnetvirt.open(f"{lab.uri}&confirm-timeout=1") as hasty:
        lab.northd.kill()
        try:
            with pytest.raises(SwitchTimeout, match="undone"):
                hasty.create(_pair("lost", port="p2"))
            eventually(lambda: [n.name for n in connection.descriptions()] == ["before"], "it is undone")
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(connection.create, _pair("patient", port="p2"))
                eventually(lambda: len(connection.descriptions()) == 2, "it is written")
                assert not waiting.done()
                lab.northd.start()
                assert waiting.result().state().state is State.ACTIVE
        finally:
            if not lab.northd.running:
                lab.northd.start()


def test_a_chassis_that_leaves_and_returns_is_reported_and_its_endpoints_come_back(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    reader = EventReader(connection)
    network = connection.create(_pair("blue"))
    lab.chassis["ch2"].controller.leave()
    try:
        eventually(lambda: "switch.disconnected" in reader.kinds(), "the chassis is gone")
        state = network.state()
        assert state.state is State.DEGRADED
        assert [(e.uuid, e.state) for e in state.endpoints] == [("1", State.ACTIVE), ("2", State.DOWN)]
        assert "chassis ch2 is not registered" in state.endpoints[1].reason
        assert [p.hops for p in network.paths()] == [(), ()]
    finally:
        lab.chassis["ch2"].controller.start()
    eventually(lambda: network.state().state is State.ACTIVE, "the network is active again")
    reader.await_kinds("switch.connected", "endpoint.state", "link.down", "link.up")


def test_foreign_changes_are_reported_and_repaired_on_request(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    reader = EventReader(connection)
    network = connection.create(_pair("blue"))
    tagged = connection.create(_pair("red", vlan=7, port="p2"))
    switch = f"netvirt-{network.uuid}"
    for words, expected in (
        (("set", "Logical_Switch_Port", "ch1:p1", "options:requested-chassis=ch2"), "differs in options"),
        (("lsp-set-addresses", "ch1:p1", "02:00:00:00:00:99"), "differs in addresses"),
        (("lsp-del", "ch1:p1"), "ch1:p1 is missing"),
        (("lsp-add", switch, "intruder"), "of others"),
        (("clear", "Logical_Switch", switch, "acls"), "zero is missing"),
        (("lsp-set-enabled", "ch2:p1", "disabled"), "differs in enabled"),
    ):
        reader.events.clear()
        lab.nbctl(*words)
        eventually(lambda: "network.drift" in reader.kinds(), f"{words} is noticed")
        state = network.state()
        assert state.state is not State.ACTIVE
        assert any(expected in line for line in state.drift), (words, state.drift)
        time.sleep(0.05)
        drift = network.state().drift
        assert drift, "no repair was requested"
        foreseen = [f"network blue: would be repaired: {text}" for text in drift]
        assert connection.rehearsal().repair("blue") == foreseen
        with pytest.raises(Unsupported, match="rehearse without it"):
            connection.rehearsal().repair(orphans=True)
        assert network.state().drift == drift
        done = connection.repair("blue")
        assert done
        assert network.state().drift == ()
        reader.await_kinds("network.mended")
        eventually(lambda: network.state().state is State.ACTIVE, f"active after {words}")
    lab.nbctl("ls-del", "netvirt-trunk-ch1:p2")
    eventually(lambda: tagged.state().drift, "the trunk is missed")
    assert connection.repair()
    eventually(lambda: tagged.state().state is State.ACTIVE, "tagged endpoints are active again")
    assert not connection.repair()


def test_repair_works_by_command_line_and_over_a_served_driver(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    connection.create(_pair("blue"))
    served = Served(uri=lab.uri)
    served.start()
    try:
        lab.nbctl("lsp-del", "ch1:p1")
        run = [NETVIRT, "-c", served.client_uri]

        def shown() -> str:
            return subprocess.run([*run, "show", "blue"], capture_output=True, text=True, check=True).stdout

        drift = "changed by others: Logical_Switch_Port ch1:p1 is missing"
        eventually(lambda: drift in shown(), "the server has noticed it")
        done = subprocess.run([*run, "repair", "blue"], capture_output=True, text=True, check=True).stdout
        assert "network blue: repaired: Logical_Switch_Port ch1:p1 is missing" in done
        eventually(lambda: connection.lookup("blue").state().drift == (), "this client sees it, too")
        done = subprocess.run(
            [*run, "repair", "--drop-orphans"], capture_output=True, text=True, check=True
        ).stdout
        assert done == "nothing to repair\n"
    finally:
        served.stop()


def test_orphans_are_shown_and_removed_only_on_request(lab: OVN, connection: libnetvirt.Connection) -> None:
    network = connection.create(_pair("blue"))
    ids = "external_ids:netvirt\\:owner=libnetvirt"
    lab.nbctl("ls-add", "lost", "--", "set", "Logical_Switch", "lost", ids,
              "external_ids:netvirt\\:network=4711")  # fmt: skip
    lab.nbctl("ls-add", "theirs")
    try:
        eventually(lambda: any("4711" in note for note in connection.substrate().notes), "it is shown")
        assert not connection.repair()
        assert "lost" in lab.nbctl("ls-list")
        assert connection.repair(orphans=True) == ["removed orphaned rows of network 4711"]
        assert "lost" not in lab.nbctl("ls-list")
        assert "theirs" in lab.nbctl("ls-list")
        assert network.state().state is State.ACTIVE
    finally:
        lab.nbctl("--if-exists", "ls-del", "theirs")


def test_a_rejected_transaction_is_reported_and_leaves_nothing(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    end = Endpoint(uuid="1", switch="ch1", port="p1", bandwidth=Limits(inbound=Bandwidth.parse("9 Tbit/s")))
    with pytest.raises(RuleRefused, match="nothing was changed"):
        connection.create(VirtualNetwork(name="fast", endpoints=(end,)))
    assert rows(lab) == []


def test_a_foreign_port_is_not_claimed(lab: OVN, connection: libnetvirt.Connection) -> None:
    lab.nbctl("ls-add", "theirs", "--", "lsp-add", "theirs", "ch1:p1")
    try:
        with pytest.raises(EndpointClaimed, match="another program"):
            connection.create(_pair("blue"))
        assert lab.nbctl("--bare", "--columns=name", "list", "Logical_Switch_Port").split() == ["ch1:p1"]
    finally:
        lab.nbctl("ls-del", "theirs")


def test_two_clients_cannot_claim_the_same_place(lab: OVN, connection: libnetvirt.Connection) -> None:
    with libnetvirt.open(lab.uri) as other, ThreadPoolExecutor(2) as pool:

        def claim(client: libnetvirt.Connection, name: str, vlan: int) -> bool:
            try:
                client.create(_pair(name, vlan))
            except EndpointClaimed:
                return False
            return True

        for vlan in range(1, 9):
            first = pool.submit(claim, connection, f"a{vlan}", vlan)
            second = pool.submit(claim, other, f"b{vlan}", vlan)
            assert sorted((first.result(), second.result())) == [False, True]
        for n in range(8):
            created = [
                pool.submit(connection.create, _pair(f"c{n}", 100 + n)),
                pool.submit(other.create, _pair(f"d{n}", 200 + n)),
            ]
            assert {future.result().state().state for future in created} == {State.ACTIVE}
        eventually(lambda: connection.descriptions() == other.descriptions(), "both see the same")
        assert len(connection.descriptions()) == 24


def test_without_chassis_databases_a_manual_iface_id_works(lab: OVN) -> None:
    uri = lab.uri.partition("&vswitch=")[0] + "&bind-timeout=0.5"
    with libnetvirt.open(uri) as connection:
        with pytest.raises(PortNotFound, match="iface-id=ch1:p1"):
            connection.create(_pair("blue"))
        assert rows(lab) == []
        for n in (1, 2):
            lab.chassis[f"ch{n}"].vsctl("set", "Interface", "p1", f'external_ids:iface-id="ch{n}:p1"')
        network = connection.create(_pair("blue"))
        assert network.state().state is State.ACTIVE
        network.remove()
        for n in (1, 2):
            lab.chassis[f"ch{n}"].vsctl("remove", "Interface", "p1", "external_ids", "iface-id")


def test_an_interrupted_move_is_finished_by_repair(lab: OVN, connection: libnetvirt.Connection) -> None:
    before = connection.create(_pair("blue")).description()
    after = before.with_endpoint(before.endpoints[0].changed(port="p2"))
    driver = connection.driver
    assert isinstance(driver, OpenedDriver)
    transactions, planner = driver._transactions, driver._planner

    async def half() -> None:
        await transactions.commit(lambda: planner.move(before, after))

    connection._loop.run(half())
    assert len(rows(lab)) == 4
    assert connection.repair()[0] == "network blue: repaired: an interrupted move"
    assert sorted(rows(lab)[1:]) == ["Logical_Switch_Port ch1:p2", "Logical_Switch_Port ch2:p1"]
    assert connection.lookup("blue").state().state is State.ACTIVE


def test_tagged_endpoints_keep_working_while_an_untagged_one_comes_and_goes(
    private_namespace: None,  # noqa: ARG001
) -> None:
    need_ovn()
    with Ovn(2, 2) as harness:
        testbed = Testbed(harness, None)
        p, q = testbed.places(2)
        a, b = testbed.guests(testbed.create((p, 50), (q, 50)))
        testbed.announce(a, b)
        with Stream(testbed, a, b) as stream:
            for _ in range(3):
                testbed.create(p, q).remove()
        stream.check_exactly_once()


def test_pending_endpoints_become_active_with_their_interface(
    lab: OVN, connection: libnetvirt.Connection
) -> None:
    network = connection.create(_pair("late", port="p9"), pending=True)
    assert network.state().state is State.PENDING
    for n in (1, 2):
        lab.add_host(f"ch{n}", "p9")
    eventually(lambda: network.state().state is State.ACTIVE, "both are active")
