"""Random operations on networks: how to ask for each, what is there afterwards, and why it may be refused."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

from libnetvirt import Endpoint, Network, Rules, Timeout, VirtualNetwork
from libnetvirt.conformance.harness import Place
from libnetvirt.errors import (
    EndpointClaimed,
    InvalidDescription,
    NetvirtError,
    NoPath,
    NotFound,
    SwitchNotFound,
    SwitchTimeout,
    Unsupported,
)
from tests.support.openflow_harness import OpenFlow

NETWORKS = 4
ENDPOINTS = 4
VLANS = (None, None, 2, 20, 100, 1000, 4094)
LABELS = (16, 1048575)

#: what there is, by uuid
Networks = Mapping[str, VirtualNetwork]


@dataclass(frozen=True)
class Operation:
    """An operation that is not asked for yet.

    ``effect``: what there is afterwards, by what there was before. Raises InvalidDescription if there is no
    such description, KeyError if what it changes is not there.
    """

    work: Callable[[], object]
    effect: Callable[[Networks], Networks]


def claims(networks: Iterable[VirtualNetwork]) -> Counter[tuple[str, str, object]]:
    """How many endpoints have each switch, port and tag."""
    ends = (e for network in networks for e in network.endpoints)
    return Counter((e.switch, e.port, ("mpls", e.mpls) if e.mpls else e.vlan) for e in ends)


def result(operation: Operation, before: Networks) -> Networks | type[NetvirtError]:
    """What there is after an operation to which the substrate does not object; or how it is refused."""
    try:
        after = operation.effect(before)
    except InvalidDescription:
        return InvalidDescription
    except KeyError:
        return NotFound
    return EndpointClaimed if max(claims(after.values()).values(), default=0) > 1 else after


def results(operations: Sequence[Operation], before: Networks) -> list[Networks]:
    """What may be there after operations that were done at the same time, in whatever order."""
    found = []
    for order in permutations(operations):
        there: Networks | type[NetvirtError] = before
        for operation in order:
            if not isinstance(there, type):
                there = result(operation, there)
        if not isinstance(there, type):
            found.append(there)
    return found


#: how the substrate may refuse an operation, by the fault that was done to it since it was last at rest
REFUSALS: dict[str, tuple[type[NetvirtError], ...]] = {
    "cut": (NoPath,),
    "away": (SwitchNotFound, SwitchTimeout, NoPath),
    "frozen": (SwitchNotFound, SwitchTimeout, NoPath),
    "killed": (SwitchNotFound, NoPath),
}


class Outcomes:
    """What came of operations, by what stood against them.

    ``calm``: nothing did. ``faults``: there was a fault since the substrate was last at rest. ``wrong``: what
    was asked for must not be.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(
        self,
        wanted: Networks | type[NetvirtError],
        faults: Set[str],
        error: NetvirtError | None,
    ) -> None:
        """Count an operation that was done or refused. AssertionError if it should not have been."""
        may = {kind for fault in faults for kind in REFUSALS[fault]}
        if isinstance(wanted, type):
            assert error is not None, f"it was done, and should have been refused: {wanted.__name__}"
            assert isinstance(error, (wanted, *may)), f"refused as {error!r}, for which there is no reason"
            self.counts["wrong"] += 1
            return
        assert error is None or isinstance(error, tuple(may)), (
            f"refused after {sorted(faults) or 'no fault'}: {error!r}"
        )
        self.counts[f"{'faults' if faults else 'calm'}: {type(error).__name__ if error else 'done'}"] += 1

    def share(self) -> tuple[float, int]:
        """Which share of the operations was done that only faults stood against, and how many these were."""
        under = {name: n for name, n in self.counts.items() if name.startswith("faults: ")}
        return under.get("faults: done", 0) / max(1, sum(under.values())), sum(under.values())


class RandomOperations:
    """Makes random operations on the networks that there are.

    ``only``: an encapsulation and an insertion, as in ``native/on-demand``, which all networks have.
    """

    def __init__(self, harness: OpenFlow, chance: random.Random, only: str) -> None:
        self.harness, self.chance, self._only = harness, chance, only
        self.places = list(harness.host_ports())
        self._numbers = iter(range(1, 1 << 20))
        capabilities = harness.connection.capabilities()
        self.features = capabilities.features
        self._options: list[Rules | None] = [] if only else [None]
        for one in capabilities.combinations:
            if only not in ("", f"{one.encapsulation}/{one.insertion}"):
                continue
            duration = None if one.timeout is Timeout.PERMANENT else "20 s"
            self._options.append(
                Rules.model_validate({**one.model_dump(exclude_none=True), "duration": duration})
            )

    @cached_property
    def _routable(self) -> list[Rules | None]:
        """The rules options with which the driver offers routers."""
        taken = []
        for rules in self._options:
            router = VirtualNetwork.model_validate({"name": "router", "forwarding": "L3", "rules": rules})
            with contextlib.suppress(Unsupported):
                self.harness.connection.create(router).remove()
                taken.append(rules)
        assert taken or self._only, "the driver offers routers with no rules options"
        return taken

    def creation(self, networks: Networks, pending: bool = False) -> Operation:
        """A new network; or the removal of one, if there are many."""
        if len(networks) >= NETWORKS:
            return self.removal_of(self.one_of(networks))
        number = next(self._numbers)
        routed = "forwarding.L3" in self.features and self.chance.random() < 0.4 and bool(self._routable)
        rules = self.chance.choice(self._routable if routed else self._options)
        endpoints = [self._endpoint(n, routed) for n in range(1, self.chance.randint(2, ENDPOINTS) + 1)]
        document = {"uuid": number, "name": f"chaos-{number}", "forwarding": "L3" if routed else "L2",
                    "endpoints": endpoints, "rules": rules}  # fmt: skip

        def effect(there: Networks) -> Networks:
            new = VirtualNetwork.model_validate(document)
            return {**there, new.uuid: new}

        connection = self.harness.connection
        return Operation(
            lambda: connection.create(VirtualNetwork.model_validate(document), pending=pending), effect
        )

    def removal(self, networks: Networks) -> Operation | None:
        """The removal of a network; None if it would be the last one."""
        return self.removal_of(self.one_of(networks)) if len(networks) > 1 else None

    def removal_of(self, network: VirtualNetwork) -> Operation:
        """The removal of this network."""

        def effect(there: Networks) -> Networks:
            left = dict(there)
            del left[network.uuid]
            return left

        return Operation(self._handle(network).remove, effect)

    def addition(self, networks: Networks) -> Operation | None:
        """A new endpoint of a network."""
        if not networks:
            return None
        network, number = self.one_of(networks), next(self._numbers) % 200 + 20
        if len(network.endpoints) >= ENDPOINTS:
            return None
        new, handle = self._endpoint(number, network.forwarding == "L3"), self._handle(network)
        return Operation(
            lambda: handle.add_endpoint(new),
            lambda there: _with_endpoints(there, network.uuid, lambda ends: (*ends, new)),
        )

    def modification(self, networks: Networks) -> Operation | None:
        """The move of an endpoint."""
        if not networks:
            return None
        network = self.one_of(networks)
        if not network.endpoints:
            return None
        return self.move_of(network, self.chance.choice(network.endpoints))

    def move_of(self, network: VirtualNetwork, endpoint: Endpoint) -> Operation:
        """The move of this endpoint to another place."""
        new, handle = self._endpoint(1, False), self._handle(network)
        moved: dict[str, Any] = {"switch": new.switch, "port": new.port, "vlan": new.vlan, "mpls": new.mpls}

        def move(ends: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
            _require(endpoint, ends)
            return tuple(e.changed(**moved) if e.uuid == endpoint.uuid else e for e in ends)

        return Operation(
            lambda: handle.modify_endpoint(endpoint.uuid, **moved),
            lambda there: _with_endpoints(there, network.uuid, move),
        )

    def drop(self, networks: Networks) -> Operation | None:
        """The removal of an endpoint."""
        if not networks:
            return None
        network = self.one_of(networks)
        if not network.endpoints:
            return None
        return self.drop_of(network, self.chance.choice(network.endpoints))

    def drop_of(self, network: VirtualNetwork, endpoint: Endpoint) -> Operation:
        """The removal of this endpoint."""
        handle = self._handle(network)

        def without(ends: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
            _require(endpoint, ends)
            return tuple(e for e in ends if e.uuid != endpoint.uuid)

        return Operation(
            lambda: handle.remove_endpoint(endpoint.uuid),
            lambda there: _with_endpoints(there, network.uuid, without),
        )

    def one_of(self, networks: Networks) -> VirtualNetwork:
        """A random network."""
        return networks[self.chance.choice(list(networks))]

    def _handle(self, network: VirtualNetwork) -> Network:
        return self.harness.connection.lookup(network.uuid)

    def _endpoint(self, uuid: int, routed: bool) -> Endpoint:
        place: Place = self.chance.choice(self.places)
        document: dict[str, object] = {"uuid": uuid, "switch": place.switch, "port": place.port}
        if "tag.mpls" in self.features and self.chance.random() < 0.2:
            document["mpls"] = self.chance.choice(LABELS)
        else:
            document["vlan"] = self.chance.choice(VLANS)
        if routed:
            document["address"] = [f"10.0.{uuid}.254/24"]
        return Endpoint.model_validate(document)


def _with_endpoints(
    there: Networks, uuid: str, change: Callable[[tuple[Endpoint, ...]], tuple[Endpoint, ...]]
) -> Networks:
    return {**there, uuid: there[uuid].changed(endpoints=change(there[uuid].endpoints))}


def _require(endpoint: Endpoint, ends: tuple[Endpoint, ...]) -> None:
    if endpoint.uuid not in {e.uuid for e in ends}:
        raise KeyError(endpoint.uuid)
