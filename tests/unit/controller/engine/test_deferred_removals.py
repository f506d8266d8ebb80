"""Removals that wait until no frame uses the entries: when they wait no longer, and which go on waiting."""

from __future__ import annotations

import pytest

from libnetvirt.controller.dataplane.entries import Flow
from libnetvirt.controller.dataplane.installed import Plan
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.model import VirtualNetwork
from tests.support.controller_rig import Rig, endpoint, frame, line, mac, network, ring

#: endpoint 12 moves from port 3 of switch 2 to port 4; endpoint 13 stays beside it
BEFORE = network(1, endpoint(11, 1, 3), endpoint(12, 2, 3, None, 2), endpoint(13, 2, 3, 30))
AFTER = network(1, endpoint(11, 1, 3), endpoint(12, 2, 4, None, 2), endpoint(13, 2, 3, 30))


def moved() -> Rig:
    """What delivers where endpoint 12 was lingers."""
    rig = Rig()
    line(rig, 2)
    rig.lingers = True
    rig.change(None, BEFORE)
    rig.change(BEFORE, AFTER)
    (left,) = rig.core.deferred.transactions
    assert left.deferred.remove[2]
    return rig


def removed(plan: Plan) -> dict[int, int]:
    """How many messages of a plan there are for each switch."""
    return {dpid: len(messages) for one in plan.rounds for dpid, messages in one.items()}


def begin(rig: Rig, before: VirtualNetwork | None, after: VirtualNetwork) -> None:
    """An operation is planned, and nothing sent yet."""
    rig.core.operations.begin(before, after)


def test_it_is_known_which_networks_have_something_left() -> None:
    rig = moved()
    assert rig.core.deferred.concerns("1")
    assert not rig.core.deferred.concerns("2")
    (left,) = rig.core.deferred.transactions
    assert removed(rig.core.deferred.due(left)) == {2: 1}
    assert not rig.core.deferred.concerns("1")


def test_nothing_is_removed_early_while_the_place_is_free() -> None:
    rig = moved()
    begin(rig, None, network(2, endpoint(21, 1, 4), endpoint(22, 2, 2)))
    assert removed(rig.core.deferred.overtaken()) == {}


def test_nothing_is_removed_early_when_the_endpoint_returns() -> None:
    rig = moved()
    begin(rig, AFTER, BEFORE)
    assert removed(rig.core.deferred.overtaken()) == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, network(2, endpoint(21, 2, 3))),
        # Its uuid is unique in its network only.
        (None, network(2, endpoint(12, 2, 3))),
        (AFTER, AFTER.with_endpoint(endpoint(14, 2, 3))),
    ],
    ids=["another network", "another network, the same uuid", "another endpoint"],
)
def test_what_delivers_at_a_place_is_removed_before_another_endpoint_is_given_it(
    before: VirtualNetwork | None, after: VirtualNetwork
) -> None:
    rig = moved()
    begin(rig, before, after)
    plan = rig.core.deferred.overtaken()
    assert plan.rounds
    (left,) = rig.core.deferred.transactions
    assert not [e for e in left.deferred.remove.get(2, []) if isinstance(e, Flow)]
    assert removed(rig.core.deferred.overtaken()) == {}, "once"


def test_what_a_network_has_left_is_not_needed_when_it_is_gone_and_until_then_it_is() -> None:
    rig = moved()
    assert removed(rig.core.deferred.unneeded()) == {}
    rig.core.operations.begin(AFTER, None)
    assert removed(rig.core.deferred.unneeded())
    (left,) = rig.core.deferred.transactions
    assert not left.deferred.remove.get(2)


def test_what_delivers_where_an_endpoint_was_goes_with_the_endpoint() -> None:
    """Else frames of another endpoint that comes there would leave at a place that no network has."""
    rig = Rig()
    line(rig, 2)
    rig.lingers = True
    here, there = (network(1, endpoint(11, 1, 3), endpoint(12, *p, None, 2)) for p in ((2, 3), (1, 4)))
    alone, beside = network(1, endpoint(11, 1, 3)), network(1, endpoint(11, 2, 4))
    for before, after in ((None, here), (here, there), (there, alone), (alone, beside)):
        rig.change(before, after)
    assert rig.core.deferred.transactions
    assert rig.fabric.probe(2, 4, frame(mac(2), mac(1))) == []


def test_after_a_reroute_old_paths_are_left_as_long_as_a_network_uses_their_tunnels() -> None:
    rig = Rig()
    ring(rig, 4)
    one = network(1, endpoint(11, 1, 3), endpoint(12, 3, 3))
    two = network(2, endpoint(21, 1, 4), endpoint(22, 3, 4))
    for description in (one, two):
        rig.change(None, description)
    rig.lingers = True
    # Both take the other way round now, and the old one lingers.
    first, second = rig.state.paths.path(1, 3) or []
    rig.cut((first.source, first.source_port))
    (left,) = rig.core.deferred.transactions
    middle = second.source
    assert [e.table for e in left.deferred.remove[middle] if isinstance(e, Flow)] == [Table.TUNNEL] * 2
    assert not rig.core.deferred.concerns("1")
    assert removed(rig.core.deferred.unneeded()) == {}
    rig.core.operations.begin(one, None).cleanup()
    assert removed(rig.core.deferred.unneeded()) == {}, "the other network has the same tunnels"
    rig.core.operations.begin(two, None).cleanup()
    assert removed(rig.core.deferred.unneeded()) == {middle: 2}
    assert removed(rig.core.deferred.due(left)) == {}
