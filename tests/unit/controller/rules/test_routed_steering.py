"""Constraints of routers: which packets take the TE path, and which meters they pass."""

from __future__ import annotations

import pytest

from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.qos.capacities import Capacities
from libnetvirt.controller.qos.te_paths import check
from libnetvirt.controller.reports import constraint_counters
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import Constraint, Encapsulation, VirtualNetwork
from tests.support.controller_rig import VLAN, Rig, line, network
from tests.unit.controller.packetin.test_slow_path import datagram, end, hello, host, packed

CAPACITIES = 'capacity = "100 Mbit/s"\nlatency = "1 ms"\n'
NEXT = {"prefix": "10.50.0.0/16", "via": "10.0.2.7"}
INSIDE = {"prefix": "10.50.7.0/24", "via": "10.0.3.7"}


@pytest.fixture(params=[Encapsulation.VLAN, Encapsulation.MPLS])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Endpoint 1 at switch 1; endpoints 2 and 3, with routes, at switch 2. All hosts are known."""
    rig = Rig(Options(VLAN.changed(encapsulation=request.param), capacities=CAPACITIES))
    line(rig, 2)
    ends = end(1, 1, 3), end(2, 2, 3, route=(NEXT,)), end(3, 2, 4, route=(INSIDE,))
    rig.change(None, network(1).changed(forwarding="L3", endpoints=ends))
    for dpid, port, number, address in (
        (1, 3, 1, 1), (2, 3, 2, 1), (2, 3, 2, 7), (2, 4, 3, 1), (2, 4, 3, 7),
    ):  # fmt: skip
        for v6 in (False, True):
            rig.inject(dpid, port, hello(number, v6, address))
    return rig


def ask(rig: Rig, *asked: dict[str, object]) -> VirtualNetwork:
    """Give the network these constraints."""
    (before,) = rig.networks
    after = before.changed(constraints=tuple(map(Constraint.model_validate, asked)))
    check(after, rig.state.options.rules, rig.state.switches)
    rig.core.constraints.plan(after)
    rig.change(before, after)
    rig.holds_what_it_should()
    return after


def metered(rig: Rig, dpid: int, port: int, source: bytes, destination: bytes) -> tuple[list[int], int]:
    """The limits' meters that a packet went through, of each switch, and how often it came out."""
    for switch in rig.fabric.switches.values():
        switch.metered.clear()
    out = rig.inject(dpid, port, datagram(source, destination))
    through = [n for s in rig.fabric.switches.values() for n in s.metered if n in pipeline.METERS]
    return through, len(out)


def test_only_subnets_and_routes_of_the_destination_are_steered(rig: Rig) -> None:
    ask(rig, {"source": 1, "destination": 2, "max-bandwidth": "5 Mbit/s"})
    (number,) = (n for n in rig.fabric.switches[1].meters if n in pipeline.METERS)
    for destination, through in (
        (host(2, v6=False), [number]),
        (host(2, v6=True), [number]),
        (packed("10.50.1.1"), [number]),
        (packed("10.50.7.1"), []),  # a longer prefix, which leads elsewhere
        (host(3, v6=False), []),
    ):
        source = host(1, v6=len(destination) == 16)
        assert metered(rig, 1, 3, source, destination) == (through, 1), destination
    assert metered(rig, 2, 3, host(2, v6=False), host(1, v6=False)) == ([], 1)
    entry = rig.state.rulesdb.networks["1"]
    assert constraint_counters.sources(rig.state, entry) == {1}


def test_routed_steering_works_on_one_switch_and_follows_its_endpoints(rig: Rig) -> None:
    ask(rig, {"source": 3, "destination": 2, "max-bandwidth": "5 Mbit/s"})
    through, count = metered(rig, 2, 4, host(3, v6=False), packed("10.50.1.1"))
    assert (len(through), count) == (1, 1)
    (before,) = rig.networks
    ends = (*before.endpoints[:2], before.endpoints[2].changed(switch="1", port="4"))
    rig.change(before, before.changed(endpoints=ends))
    rig.inject(1, 4, hello(3, False))
    through, count = metered(rig, 1, 4, host(3, v6=False), packed("10.50.1.1"))
    assert (len(through), count) == (1, 1)
    (before,) = rig.networks
    plain = before.endpoints[1].changed(route=())
    rig.change(before, before.changed(endpoints=(before.endpoints[0], plain, before.endpoints[2])))
    rig.holds_what_it_should()
    assert metered(rig, 1, 4, host(3, v6=False), packed("10.50.1.1"))[0] == []
    rig.change(rig.networks[0], None)
    rig.holds_what_it_should()
    assert all(n not in pipeline.METERS for s in rig.fabric.switches.values() for n in s.meters)


def test_reserved_traffic_is_not_policed_with_best_effort(rig: Rig) -> None:
    ask(rig, {"source": 1, "destination": 2, "min-bandwidth": "30 Mbit/s"})
    switch = rig.fabric.switches[1]
    (guard,) = (n for n, m in switch.meters.items() if m.bands[0].rate == 65_000)  # type: ignore[union-attr]
    switch.exceeded = {guard}
    assert metered(rig, 1, 3, host(1, v6=False), host(2, v6=False))[1] == 1
    assert metered(rig, 1, 3, host(1, v6=False), host(3, v6=False))[1] == 0
    switch.exceeded = set()
    with pytest.raises(ConstraintUnmet, match="90 Mbit/s would fit"):
        ask(rig, {"source": 1, "destination": 2, "min-bandwidth": "91 Mbit/s"})


def test_without_a_te_path_packets_take_the_shortest_path_within_their_maximum(rig: Rig) -> None:
    ask(rig, {"source": 1, "destination": 2, "max-bandwidth": "5 Mbit/s", "max-latency": "1 ms"})
    work, _ = rig.core.capacity_reload.plan(Capacities(rig.state.switches, 'latency = "2 ms"'), degrade=True)
    rig.execute(work)
    rig.core.deferred.add(work)
    rig.settle()
    rig.holds_what_it_should()
    assert rig.state.te_paths.ordered()[0].degraded
    through, count = metered(rig, 1, 3, host(1, v6=False), host(2, v6=False))
    assert (len(through), count) == (1, 1)
