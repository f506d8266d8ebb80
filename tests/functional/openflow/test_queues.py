"""Minimums kept by queues, on real switches: rows, what Open vSwitch makes of them, and the rules.

The userspace datapath does not tell the kernel which queue a frame is for. So what is seen here is that the
queues are there, with their rates, and that the rules name them; not what they do to traffic.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from libnetvirt import Encapsulation, Network, Rules
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.errors import ConstraintUnmet, RuleRefused, SwitchTimeout
from tests.support.guest_pairs import Guests
from tests.support.lab.traffic import run
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(120)]

MBIT = 1_000_000
CAPACITIES = 'capacity = "100 Mbit/s"\nenforcement = "queue-unchecked"\n'
CONSTRAINT = "netvirt:constraint"


@pytest.fixture(scope="module")
def harness(private_namespace: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenFlow]:  # noqa: ARG001
    file: Path = tmp_path_factory.mktemp("queues") / "capacities.toml"
    file.write_text(CAPACITIES)
    harness = OpenFlow(3, [(1, 2), (2, 3), (3, 1)], hosts=2, options=f"&capacities={file}&confirm-timeout=2")
    harness.served.uri += f"&ovsdb={harness.lab.ovs.socket}"
    with harness:
        yield harness


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    yield testbed
    harness.lab.restore_all()
    assert list(clean(testbed)) == []
    testbed.eventually(lambda: _rows(harness, "QoS", "Queue"), "the rows go")


def _rows(harness: OpenFlow, *tables: str) -> list[dict[str, Any]]:
    """The rows of tables at one moment, with maps as dictionaries."""
    commands = [word for table in tables for word in ("--", "list", table)]
    documents = map(json.loads, harness.lab.ovs.vsctl("--format=json", *commands).splitlines())
    return [
        {column: _plain(value) for column, value in zip(document["headings"], row, strict=True)}
        for document in documents
        for row in document["data"]
    ]


def _plain(value: Any) -> Any:
    if not isinstance(value, list) or value[0] != "map":
        return value
    return {k: v[1] if isinstance(v, list) else v for k, v in value[1]}


def _queues(harness: OpenFlow) -> dict[str, dict[str, tuple[int, int]]]:
    """Port -> constraint (empty: the default queue) -> least and most Mbit/s, as the rows say."""
    by_uuid = {row["_uuid"][1]: row for row in _rows(harness, "QoS", "Queue", "Port")}
    used = [by_uuid[row["qos"][1]] for row in by_uuid.values() if row.get("qos", ["set"])[0] == "uuid"]
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for row in [row for row in used if "netvirt:port" in row["external_ids"]]:
        assert (row["type"], row["other_config"]) == ("linux-htb", {"max-rate": str(100 * MBIT)})
        dpid, port = row["external_ids"]["netvirt:port"].split("/")
        held = [by_uuid[uuid] for uuid in row["queues"].values()]
        found[f"{int(dpid, 16)}:{port}"] = {
            q["external_ids"].get(CONSTRAINT, "/").split("/", 1)[1]: (
                round(int(q["other_config"]["min-rate"]) / MBIT),
                round(int(q["other_config"]["max-rate"]) / MBIT),
            )
            for q in held
        }
    return found


def _classes(harness: OpenFlow, switch: int, port: int) -> set[str]:
    """The rates of the kernel's classes on a port, in Mbit/s: least and most."""
    name = harness.lab.interface(switch, port)
    said = subprocess.run(["tc", "class", "show", "dev", name], capture_output=True, text=True, check=True)
    found = re.findall(r"rate (\d+)(M|K)bit ceil (\d+)Mbit", said.stdout)
    return {f"{int(least) / (1 if unit == 'M' else 1000):.0f}-{most}" for least, unit, most in found}


def _counted(link: str, queue: int) -> tuple[int, int]:
    """The packets that the class of a queue has passed on, and dropped."""
    said = subprocess.run(
        ["tc", "-s", "class", "show", "dev", link], capture_output=True, text=True, check=True
    )
    found = re.search(rf"class htb 1:{queue + 1:x} .*?(\d+) pkt \(dropped (\d+)", said.stdout, re.DOTALL)
    assert found is not None, said.stdout
    return int(found[1]), int(found[2])


def _set_queues(harness: OpenFlow, switch: int) -> set[str]:
    """What the rules of a switch put into queues: queue and port."""
    lines = harness.lab.ofctl("dump-flows", switch).splitlines()
    return {found[1] for line in lines if (found := re.search(r"set_queue:(\d+,output:\S+)", line))}


@pytest.fixture
def pair(harness: OpenFlow, testbed: Testbed, request: pytest.FixtureRequest) -> list[Network]:
    """Two networks from switch 1 to switch 2, whose hosts have met."""
    networks = []
    for number in (1, 2):
        places = [p for p in harness.host_ports() if p.switch in "12" and p.port == str(number)]
        network = testbed.create(*places, rules=Rules(encapsulation=getattr(request, "param", None)))
        testbed.announce(*testbed.guests(network))
        networks.append(network)
    return networks


@pytest.mark.parametrize("pair", [Encapsulation.VLAN, Encapsulation.MPLS], indirect=True)
def test_a_minimum_has_a_queue_at_each_port_of_its_path(
    harness: OpenFlow, testbed: Testbed, pair: list[Network]
) -> None:
    a, b = pair
    a.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    # A queue counts labels, too: it has 20/19 of what is promised.
    assert _queues(harness) == {"1:101": {"": (65, 100), "1/2": (32, 100)}}
    assert _classes(harness, 1, 101) >= {"65-100", "32-100"}
    assert _set_queues(harness, 1) == {"1,output:101"}
    # There is room for the other only round the ring, with a ceiling in the queues as well as in its meter.
    b.add_constraint(source=1, destination=2, min_bandwidth="65 Mbit/s", max_bandwidth="70 Mbit/s")
    other = {"": (30, 100), "1/2": (68, 74)}
    assert _queues(harness) == {"1:101": {"": (65, 100), "1/2": (32, 100)}, "1:102": other, "3:101": other}
    assert [len(_set_queues(harness, s)) for s in (1, 2, 3)] == [2, 0, 1]
    assert "rate=70000" in harness.lab.ofctl("dump-meters", 1)
    for network in pair:
        testbed.announce(*testbed.guests(network))
    # A change of the figures changes rows, and no rule.
    before = {s: harness.lab.dump(s) for s in (1, 2, 3)}
    a.modify_constraint(source=1, destination=2, min_bandwidth="50 Mbit/s")
    testbed.eventually(
        lambda: _queues(harness)["1:101"] != {"": (45, 100), "1/2": (53, 100)}, "the rows follow"
    )
    assert {s: harness.lab.dump(s) for s in before} == before
    a.remove_constraint(1, 2)
    testbed.eventually(lambda: _queues(harness).keys() - {"1:102", "3:101"}, "the queues of the first go")
    testbed.eventually(lambda: len(_set_queues(harness, 1)) != 1, "no rule uses them")
    testbed.eventually(lambda: _classes(harness, 1, 101), "the kernel has none")
    b.remove()
    testbed.eventually(lambda: _rows(harness, "QoS", "Queue"), "the rows go")


def test_queues_survive_a_controller_restart_and_follow_a_reroute(
    harness: OpenFlow, testbed: Testbed, pair: list[Network]
) -> None:
    a, _ = pair
    a.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    before = _rows(harness, "QoS", "Queue"), [sorted(harness.lab.dump(s)) for s in (1, 2, 3)]
    harness.kill_controller()
    harness.start_controller()
    assert (_rows(harness, "QoS", "Queue"), [sorted(harness.lab.dump(s)) for s in (1, 2, 3)]) == before
    harness.lab.cut_link(1, 2)
    testbed.eventually(lambda: _queues(harness).keys() != {"1:102", "3:101"}, "the queues go round")
    testbed.eventually(
        lambda: [len(_set_queues(harness, s)) for s in (1, 2, 3)] != [1, 0, 1], "and so do the rules"
    )
    harness.lab.restore_link(1, 2)
    testbed.await_links()
    harness.connection.lookup(a.uuid).remove_constraint(1, 2)
    testbed.eventually(lambda: _rows(harness, "QoS", "Queue"), "the rows go")


def test_foreign_changes_to_queues_are_repaired_and_foreign_rows_kept(
    harness: OpenFlow, testbed: Testbed
) -> None:
    places = [p for p in harness.host_ports() if p.switch in "12" and p.port == "1"]
    network, vsctl = testbed.create(*places), harness.lab.ovs.vsctl
    network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    wanted, port = _queues(harness), harness.lab.interface(1, 101)
    for theft in (
        lambda: ("clear", "Port", port, "qos"),
        lambda: ("--", "clear", "Port", port, "qos", "--", "--all", "destroy", "QoS"),
        lambda: ("clear", "QoS", _rows(harness, "QoS")[0]["_uuid"][1], "queues"),
    ):
        vsctl(*theft())
        testbed.eventually(lambda: _queues(harness) != wanted, "the rows are back")
        assert len(_rows(harness, "Queue")) == 2
    victim = next(r for r in _rows(harness, "Queue") if CONSTRAINT in r["external_ids"])["_uuid"][1]
    vsctl("set", "Queue", victim, "other_config:min-rate=1")
    testbed.eventually(lambda: _queues(harness) != wanted, "the rate is back")
    # Another program takes the port: constraints take another path, and come back afterwards.
    vsctl("set", "Port", port, "qos=@new", "--", "--id=@new", "create", "QoS", "type=linux-sfq")
    testbed.eventually(lambda: not _set_queues(harness, 3), "the path goes round")
    assert vsctl("get", "QoS", vsctl("get", "Port", port, "qos").strip(), "type").strip() == "linux-sfq"
    reason = r"port 101 has 0 bit/s free \(its port has a QoS of another program\)"
    with pytest.raises(ConstraintUnmet, match=reason):
        network.modify_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s", max_hops=2)
    network.remove_constraint(1, 2)
    testbed.eventually(lambda: len(_rows(harness, "QoS")) != 1, "only the stranger's is left")
    vsctl("--", "clear", "Port", port, "qos", "--", "--all", "destroy", "QoS")
    network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s", max_hops=2)
    assert _queues(harness) == wanted


def test_a_failed_queue_operation_leaves_no_trace(harness: OpenFlow, testbed: Testbed) -> None:
    places = [p for p in harness.host_ports() if p.switch in "12" and p.port == "1"]
    network, bridge = testbed.create(*places), harness.lab.bridge(2)
    held = len(harness.lab.ofctl("dump-flows", 2, "table=1").splitlines()) - 1
    harness.lab.ovs.vsctl(
        "--", "--id=@t", "create", "Flow_Table", f"flow_limit={held}", "overflow_policy=refuse",
        "--", "set", "Bridge", bridge, "flow_tables:1=@t",
    )  # fmt: skip
    before = harness.leftovers()
    try:
        with pytest.raises(RuleRefused, match="no room"):
            network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    finally:
        harness.lab.ovs.vsctl("clear", "Bridge", bridge, "flow_tables")
    assert _rows(harness, "QoS", "Queue") == []
    assert harness.leftovers() == before
    harness.lab.ovs.freeze_database()
    try:
        with pytest.raises(SwitchTimeout, match=r"the database unix:.* cannot be reached"):
            network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    finally:
        harness.lab.ovs.thaw_database()
    assert harness.leftovers() == before
    testbed.eventually(lambda: _rows(harness, "QoS", "Queue"), "nothing comes later")
    testbed.eventually(
        lambda: [n for n in harness.connection.substrate().notes if "database" in n], "it is back"
    )
    network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")


@pytest.mark.alone
def test_kernel_classes_enforce_the_rates_of_queues(harness: OpenFlow, testbed: Testbed) -> None:
    """A filter of the kernel takes the part of the datapath, and puts frames into the class of their queue.

    So the classes that Open vSwitch makes of the rows are seen to keep a minimum, and to be no ceiling.
    """
    link = harness.lab.interface(1, 101)
    # Frames of a full class are to be dropped there, and not where Open vSwitch hands them over.
    subprocess.run(["ip", "link", "set", link, "txqueuelen", "45"], check=True)
    with ExitStack() as stack:
        guests = Guests(testbed, stack, Rules(encapsulation=Encapsulation.VLAN), count=2)
        guests.networks[0].add_constraint(source=1, destination=2, min_bandwidth="40 Mbit/s", max_hops=2)
        rule = next(line for line in harness.lab.ofctl("dump-flows", 1).splitlines() if "set_queue" in line)
        queue = int(re.findall(r"set_queue:(\d+)", rule)[0])
        label = int(re.findall(r"set_field:(\d+)->vlan_vid", rule)[-1]) & 0xFFF
        classify = ["tc", "filter", "add", "dev", link, "parent", "1:", "protocol", "all", "u32"]
        for offset in ("0", "-8"):  # kernels differ in where they look for what follows tags
            outer = ["match", "u32", f"{label << 16 | 0x88A8:#x}", "0x0fffffff", "at", offset]
            subprocess.run([*classify, *outer, "flowid", f"1:{queue + 1:x}"], check=True)
        # What a busy machine does not bring as far as the class is nothing that the class has dropped.
        promised = guests.flow(0, 38 * MBIT)
        promised.promised = True
        _, rest = run([promised, guests.flow(1, 120 * MBIT)], 4.0)
        passed, dropped = _counted(link, queue)
        assert passed > 1000
        # In one queue with the flood, more than a third of them would be.
        assert dropped <= 0.15 * (passed + dropped)
        assert rest <= 70 * MBIT
        # A ceiling would drop half.
        run([guests.flow(0, 80 * MBIT)], 2.0)
        passed, dropped = (
            now - before for now, before in zip(_counted(link, queue), (passed, dropped), strict=True)
        )
        assert dropped <= 0.3 * (passed + dropped)
    subprocess.run(["ip", "link", "set", link, "txqueuelen", "1000"], check=True)


def test_a_change_back_to_meters_removes_the_queue_rows(harness: OpenFlow, testbed: Testbed) -> None:
    places = [p for p in harness.host_ports() if p.switch in "12" and p.port == "1"]
    network = testbed.create(*places)
    network.add_constraint(source=1, destination=2, min_bandwidth="30 Mbit/s")
    assert len(_rows(harness, "QoS", "Queue")) == 3
    harness.kill_controller()
    harness.served.uri += "&enforcement=meter"
    harness.start_controller()
    testbed.eventually(lambda: _rows(harness, "QoS", "Queue"), "the rows go")
    testbed.eventually(lambda: "rate=30000" not in harness.lab.ofctl("dump-meters", 1), "there is a meter")

    def states() -> list[str]:
        return [str(c.state) for c in harness.connection.lookup(network.uuid).state().constraints]

    testbed.eventually(lambda: states() != ["active"] and states(), "it is kept")
