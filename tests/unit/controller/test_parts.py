"""PathFinder, Locator, RulesDB and labels, each by itself."""

from __future__ import annotations

from random import Random

import pytest

from libnetvirt.controller.intent.facts import LABELS, FactJournal, Facts, LastIndex
from libnetvirt.controller.intent.labels import Labels
from libnetvirt.controller.intent.locator import LearnResult, Locator
from libnetvirt.controller.intent.rulesdb import RulesDB
from libnetvirt.controller.intent.switches import PortView, SwitchView, parse_switch, switch_text
from libnetvirt.controller.topology.pathfinder import Edge, PathFinder
from libnetvirt.errors import EndpointClaimed, InvalidDescription, LabelsExhausted
from libnetvirt.model import Encapsulation, Rules, VirtualNetwork
from tests.support.controller_rig import edges, endpoint, mac, network

SQUARE = edges((1, 1, 2, 1), (1, 2, 3, 1), (2, 2, 4, 1), (3, 2, 4, 2))


def _finder(*links: tuple[int, int, int, int], cost: float = 1.0) -> PathFinder:
    finder = PathFinder()
    finder.update(Edge(*link, cost) for link in links)
    return finder


def _hops(finder: PathFinder, source: int, destination: int) -> list[int] | None:
    path = finder.path(source, destination)
    return None if path is None else [edge.destination for edge in path]


# ---- PathFinder ------------------------------------------------------------------------------------


def test_of_two_shortest_paths_the_lower_switch_is_used() -> None:
    assert _hops(_finder(*SQUARE), 1, 4) == [2, 4]


def test_of_two_parallel_links_the_lower_port_is_used() -> None:
    finder = _finder(*edges((1, 7, 2, 3), (1, 5, 2, 9)))
    path = finder.path(1, 2)
    assert path is not None
    assert [e.source_port for e in path] == [5]


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_links_are_found_does_not_matter(seed: int) -> None:
    chance = Random(seed)
    links = [
        (a, a * 10 + b, b, b * 10 + a)
        for a in range(1, 8)
        for b in range(1, 8)
        if a < b and chance.random() < 0.6
    ]
    found = edges(*links)
    one = _finder(*found)
    chance.shuffle(found)
    other = _finder(*found)
    assert [one.tree(d) for d in range(1, 8)] == [other.tree(d) for d in range(1, 8)]


def test_a_cheaper_detour_is_taken() -> None:
    finder = PathFinder()
    finder.update([Edge(1, 1, 2, 1, 10.0), Edge(1, 2, 3, 1), Edge(3, 2, 2, 2)])
    assert _hops(finder, 1, 2) == [3, 2]


def test_a_path_within_a_switch_is_empty_and_to_an_unreachable_one_is_none() -> None:
    finder = _finder(*edges((1, 1, 2, 1)))
    assert _hops(finder, 1, 1) == []
    assert _hops(finder, 1, 9) is None
    assert _hops(finder, 9, 1) is None


def test_a_link_in_one_direction_leads_in_one_direction() -> None:
    finder = _finder((1, 1, 2, 1))
    assert _hops(finder, 1, 2) == [2]
    assert _hops(finder, 2, 1) is None


def test_the_same_topology_again_is_no_change() -> None:
    finder = _finder(*SQUARE)
    assert not finder.update(Edge(*link) for link in reversed(SQUARE))
    assert finder.update(Edge(*link) for link in SQUARE[2:])
    assert _hops(finder, 1, 4) == [3, 4]


# ---- Locator ---------------------------------------------------------------------------------------


def test_an_endpoint_has_a_limited_number_of_hosts() -> None:
    locator = Locator(limit=2)
    locator.put("a", False, ())
    verdicts = [locator.learn("a", "1", mac(n)) for n in range(1, 5)]
    assert verdicts == [LearnResult.LEARNED, LearnResult.LEARNED, LearnResult.FULL, LearnResult.FULL]
    assert locator.learn("a", "2", mac(3)) is LearnResult.LEARNED
    locator.remove_learned("a", mac(1))
    assert locator.learn("a", "1", mac(4)) is LearnResult.LEARNED


def test_a_host_moves_between_endpoints_of_its_network() -> None:
    locator = Locator(limit=1)
    locator.put("a", False, ())
    assert locator.learn("a", "1", mac(1)) is LearnResult.LEARNED
    assert locator.learn("a", "1", mac(1)) is LearnResult.KNOWN
    assert locator.learn("a", "2", mac(1)) is LearnResult.MOVED
    assert locator.learn("a", "1", mac(2)) is LearnResult.LEARNED  # its place is free again
    assert [(h.mac, h.endpoint) for h in locator.hosts("a")] == [(mac(1), "2"), (mac(2), "1")]


def test_a_host_that_moves_to_a_full_endpoint_is_unknown() -> None:
    locator = Locator(limit=1)
    locator.put("a", False, ())
    locator.learn("a", "1", mac(1))
    locator.learn("a", "2", mac(2))
    assert locator.learn("a", "2", mac(1)) is LearnResult.FULL
    assert locator.find("a", mac(1)) is None
    assert locator.learn("a", "1", mac(1)) is LearnResult.LEARNED


def test_a_declared_host_stays_where_it_is_declared() -> None:
    locator = Locator(limit=1)
    locator.put("a", False, [(mac(1), "1")])
    assert locator.learn("a", "2", mac(1)) is LearnResult.ELSEWHERE
    assert locator.learn("a", "1", mac(1)) is LearnResult.KNOWN
    assert locator.remove_learned("a", mac(1)) is None
    assert locator.remove_learned_at("a", "1") == []
    # It takes no learned host's place.
    assert locator.learn("a", "1", mac(2)) is LearnResult.LEARNED


def test_a_learned_host_that_is_declared_is_removed_with_its_declaration() -> None:
    locator = Locator(limit=1)
    locator.put("a", False, ())
    locator.learn("a", "1", mac(1))
    locator.declare("a", [(mac(1), "2")])
    assert locator.learn("a", "1", mac(2)) is LearnResult.LEARNED
    locator.declare("a", (), gone=["2"])
    assert [h.mac for h in locator.hosts("a")] == [mac(2)]


@pytest.mark.parametrize("address", [0, 0xFFFF_FFFF_FFFF, 0x0100_5E00_0001])
def test_group_and_zero_addresses_are_not_learned(address: int) -> None:
    locator = Locator()
    locator.put("a", False, ())
    assert locator.learn("a", "1", address) is LearnResult.INVALID
    assert not list(locator.hosts("a"))


def test_native_networks_share_no_address_but_others_may() -> None:
    locator = Locator()
    locator.put("a", True, [(mac(1), "1")])
    locator.put("b", True, ())
    locator.put("c", False, ())
    assert locator.learn("a", "1", mac(2)) is LearnResult.LEARNED
    assert locator.learn("b", "1", mac(1)) is LearnResult.FOREIGN
    assert locator.learn("b", "1", mac(2)) is LearnResult.FOREIGN
    assert locator.learn("c", "1", mac(2)) is LearnResult.LEARNED
    assert locator.native_holder(mac(2)) == "a"
    locator.remove_learned("a", mac(2))
    assert locator.learn("b", "1", mac(2)) is LearnResult.LEARNED
    locator.remove_network("a")
    assert locator.native_holder(mac(1)) is None
    assert locator.native_holder(mac(2)) == "b"


# ---- RulesDB ---------------------------------------------------------------------------------------


def _view(dpid: int, *names: str) -> SwitchView:
    ports = {n: PortView(n, name, True) for n, name in enumerate(names, 1)}
    return SwitchView(dpid, connected=True, known=True, ports=ports)


@pytest.mark.parametrize(
    ("text", "dpid"),
    [
        ("1", 1),
        ("0001", 1),
        ("4294967296", 1 << 32),
        ("0x1F", 31),
        ("00000000000000ff", 255),
        ("0000000000000010", 16),
        ("00:00:00:00:00:00:00:0A", 10),
        ("0:0:0:0:0:0:1:0", 256),
        ("18446744073709551615", (1 << 64) - 1),
        ("FFFFFFFFFFFFFFFF", (1 << 64) - 1),
    ],
)
def test_a_switch_can_be_written_in_several_notations(text: str, dpid: int) -> None:
    assert parse_switch(text) == dpid
    assert parse_switch(switch_text(dpid)) == dpid


NO_SWITCHES = (
    "",
    "0",
    "0x0",
    "-1",
    "s1",
    "1.5",
    "1_0",
    " 1",
    "0x",
    "\u0661",
    "18446744073709551616",
    "00:00:00:00:00:01",
    "0x10000000000000000",
    "00:00:00:00:00:00:00:00",
    "00:00:00:00:00:00:00:0g",
)


@pytest.mark.parametrize("text", NO_SWITCHES)
def test_an_invalid_datapath_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidDescription, match="is not a datapath id"):
        parse_switch(text)


def _check(rulesdb: RulesDB, described: VirtualNetwork, switches: dict[int, SwitchView]) -> None:
    rulesdb.check(described, described.by_uuid, switches)


def test_a_port_belongs_to_one_endpoint_however_it_is_written() -> None:
    rulesdb, switches = RulesDB(), {1: _view(1, "eth1", "eth2")}
    rulesdb.add(network(1, endpoint(11, 1, "eth1")), 1, Rules(), switches)
    for switch, port in ((1, 1), ("0x1", "01"), ("00:00:00:00:00:00:00:01", "eth1")):
        with pytest.raises(EndpointClaimed, match="endpoint 11 of network n1"):
            _check(rulesdb, network(2, endpoint(21, switch, port)), switches)  # type: ignore[arg-type]
    _check(rulesdb, network(2, endpoint(21, 1, 1, 20), endpoint(22, 1, 2)), switches)
    with pytest.raises(EndpointClaimed, match="endpoint 21 of network n2"):
        _check(rulesdb, network(2, endpoint(21, 1, 2), endpoint(22, 1, "eth2")), switches)


def test_a_number_is_claimed_before_its_switch_is_known() -> None:
    rulesdb = RulesDB()
    rulesdb.add(network(1, endpoint(11, 1, 3)), 1, Rules(), {})
    with pytest.raises(EndpointClaimed):
        _check(rulesdb, network(2, endpoint(21, 1, "03")), {})


def test_a_network_may_keep_its_own_places() -> None:
    rulesdb, switches = RulesDB(), {1: _view(1, "eth1", "eth2")}
    rulesdb.add(network(1, endpoint(11, 1, 1)), 1, Rules(), switches)
    after = network(1, endpoint(12, 1, 1))
    rulesdb.check(after, {"11", "12"}, switches)


def test_endpoints_follow_ports_that_swap_numbers() -> None:
    rulesdb, switches = RulesDB(), {1: _view(1, "eth1", "eth2")}
    entry = rulesdb.add(network(1, endpoint(11, 1, "eth1"), endpoint(12, 1, "eth2")), 1, Rules(), switches)
    assert [b.port for b in entry.endpoints.values()] == [1, 2]
    assert rulesdb.bind_ports(_view(1, "eth2", "eth1")) == [entry]
    assert [b.port for b in entry.endpoints.values()] == [2, 1]
    assert rulesdb.at(1, 1, 0) is entry.endpoints["12"]
    assert rulesdb.ports == {(1, 1): 1, (1, 2): 1}


def test_the_first_of_two_endpoints_at_one_place_gets_it() -> None:
    rulesdb = RulesDB()
    one = rulesdb.add(network(1, endpoint(11, 1, "eth1")), 1, Rules(), {})
    two = rulesdb.add(network(2, endpoint(21, 1, 1)), 2, Rules(), {})
    rulesdb.bind_ports(_view(1, "eth1"))
    assert one.endpoints["11"].port == 1
    assert two.endpoints["21"].port is None
    assert rulesdb.at(1, 1, 0) is one.endpoints["11"]


def test_all_claims_are_released_with_their_network() -> None:
    rulesdb, switches = RulesDB(), {1: _view(1, "eth1", "eth2")}
    rulesdb.add(
        network(1, endpoint(11, 1, 1), endpoint(12, 1, 1, 20), endpoint(13, 2, "eth9")), 1, Rules(), switches
    )
    assert rulesdb.ports == {(1, 1): 2}
    assert rulesdb.find("n1") is rulesdb.find("1") is not None
    rulesdb.remove("1")
    assert not rulesdb.by_point
    assert not rulesdb.ports
    assert not rulesdb.by_index
    assert rulesdb.find("n1") is rulesdb.find("1") is None


def test_an_index_is_not_used_again_soon() -> None:
    rulesdb = RulesDB()
    for uuid in (1, 2):
        rulesdb.add(network(uuid), rulesdb.free_index(uuid - 1), Rules(), {})
    rulesdb.remove("2")
    assert rulesdb.free_index(2) == 3


def test_renaming_frees_the_old_name() -> None:
    rulesdb = RulesDB()
    entry = rulesdb.add(network(1), 1, Rules(), {})
    rulesdb.update(entry, network(1).changed(name="red"), (), {})
    assert rulesdb.find("n1") is None
    assert rulesdb.find("red") is not None


# ---- labels ----------------------------------------------------------------------------------------


def test_labels_are_given_once_and_freed() -> None:
    space = Labels(FactJournal()).spaces[Encapsulation.VLAN]
    one = space.tunnel(1)
    assert space.tunnel(1) == one
    assert space.tunnel(2).label != one.label
    assert space.tunnel(2).number != one.number
    assert space.service(1, "a") == space.service(1, "a") != space.service(1, "b")
    assert space.service(2, "a") == 1  # another switch's labels are others
    space.release_tunnel(1)
    space.release_service(1, "a")
    # The number of a group is free; labels come round again last.
    assert space.tunnel(3).number == one.number
    assert space.tunnel(3).label == 3
    assert space.service(1, "c") == 3
    assert [space.service(1, str(n)) for n in range(4090)] == list(range(4, 4094))
    assert space.service(1, "last") == 1


def test_labels_are_released_with_their_network() -> None:
    labels = Labels(FactJournal())
    space = labels.spaces[Encapsulation.VLAN]
    labels.assign_index("a", 7)
    for dpid in (1, 2, 3):
        space.service(dpid, "a")
    labels.release_network("a")
    assert labels.index("a") is None
    assert [fact for fact, exists in labels.journal.changes.values() if exists] == [LastIndex(7)]


def test_stored_labels_are_restored() -> None:
    labels = Labels(FactJournal())
    space = labels.spaces[Encapsulation.VLAN]
    labels.assign_index("a", 7)
    space.service(5, "a")
    space.service(5, "b")
    space.service(5, "c")
    space.release_service(5, "b")
    space.tunnel(5)
    space.tunnel(6)
    space.relabel(5)
    again = Labels(FactJournal())
    again.load(Facts(fact for fact, exists in labels.journal.changes.values() if exists))
    assert not again.journal.changes
    assert again.index("a") == 7
    assert [again.spaces[Encapsulation.VLAN].service(5, n) for n in "acd"] == [1, 3, 4]
    assert [again.spaces[Encapsulation.VLAN].tunnel(d) for d in (5, 6)] == [space.tunnel(d) for d in (5, 6)]


def test_a_relabelled_tunnel_keeps_its_old_label_until_it_is_freed() -> None:
    space = Labels(FactJournal()).spaces[Encapsulation.VLAN]
    old = space.tunnel(1)
    new = space.relabel(1)
    assert (new.number, new.label) == (old.number, 2)
    assert space.tunnel(2).label == 3
    numbers = [space.tunnel(dpid).label for dpid in range(3, 4093)]
    assert numbers == list(range(4, 4094))
    with pytest.raises(LabelsExhausted):
        space.tunnel(9999)
    space.free_outer(old.label)
    assert space.tunnel(9999).label == old.label


def test_4093_labels_and_no_more() -> None:
    labels = Labels(FactJournal())
    space = labels.spaces[Encapsulation.VLAN]
    assert {space.tunnel(dpid).label for dpid in range(4093)} == set(LABELS[Encapsulation.VLAN])
    assert {space.service(1, str(n)) for n in range(4093)} == set(LABELS[Encapsulation.VLAN])
    before = dict(labels.journal.changes)
    with pytest.raises(LabelsExhausted, match="4093 vlan tunnels"):
        space.tunnel(9999)
    with pytest.raises(LabelsExhausted):
        space.relabel(1)
    with pytest.raises(LabelsExhausted, match="switch 1 serves 4093 networks"):
        space.service(1, "more")
    assert labels.journal.changes == before
    assert space.service(2, "more") == 1
    space.release_tunnel(17)
    assert space.tunnel(9999).label == 18
