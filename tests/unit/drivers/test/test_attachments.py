"""Attachments that follow changes hold the same as those that are built from the networks."""

from __future__ import annotations

import random
from contextlib import suppress

from libnetvirt.drivers.test.counters import Attachments
from libnetvirt.errors import EndpointClaimed
from libnetvirt.model import Endpoint, VirtualNetwork

#: the endpoints of a network keep the same tags of their customers, or none
TAGS: tuple[tuple[int | str | None, ...], ...] = ((None, 5, 6, 104), ("any",), ("100-109",), ("104,200",))
PORTS = ("1", "2", "3")


def _network(draw: random.Random, uuid: int) -> VirtualNetwork:
    tags = draw.choice(TAGS)
    endpoints = []
    for number, port in enumerate(draw.sample(PORTS, draw.randint(0, 3)), 1):
        endpoints.append(Endpoint(uuid=number, switch="1", port=port, vlan=draw.choice(tags)))
    return VirtualNetwork(uuid=uuid, name=f"n{uuid}", endpoints=endpoints)


def _claimed(attachments: Attachments, network: VirtualNetwork) -> list[bool]:
    found = []
    for e in network.endpoints:
        claimed = True
        with suppress(EndpointClaimed):
            attachments.require_free(network, e)
            claimed = False
        found.append(claimed)
    return found


def test_changes_leave_what_all_networks_together_have() -> None:
    draw = random.Random(1)
    networks: dict[str, VirtualNetwork] = {}
    followed = Attachments([])
    accepted = refused = 0
    for _ in range(600):
        wanted = _network(draw, draw.randint(1, 6))
        before = networks.get(wanted.uuid)
        after = None if before and draw.random() < 0.3 else wanted
        fresh = Attachments(networks.values())
        assert _claimed(followed, wanted) == _claimed(fresh, wanted)
        if after is not None and any(_claimed(fresh, after)):
            refused += 1
            continue
        accepted += 1
        followed.change(before, after)
        networks.pop(wanted.uuid, None)
        if after is not None:
            networks[after.uuid] = after
        fresh = Attachments(networks.values())
        assert followed.ports == fresh.ports
        for port in PORTS:
            assert sorted(n.uuid for n in followed.networks_at("1", port)) == sorted(
                n.uuid for n in fresh.networks_at("1", port)
            )
    assert min(accepted, refused) > 100
