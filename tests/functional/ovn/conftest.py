"""The lab of a module of tests, and a connection that has to leave nothing in OVN.

A module may set ``CHASSIS``, how many chassis its lab has, and ``OPTIONS``, of the connection's URI.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import libnetvirt
from labs.ovn import OVN
from tests.support.lab.wire import Wire
from tests.support.ovn_harness import need_ovn, rows


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, private_namespace: None) -> Iterator[OVN]:  # noqa: ARG001
    need_ovn()
    with OVN(chassis=getattr(request.module, "CHASSIS", 2), hosts=2) as lab:
        yield lab


@pytest.fixture
def connection(request: pytest.FixtureRequest, lab: OVN) -> Iterator[libnetvirt.Connection]:
    with libnetvirt.open(f"{lab.uri}{getattr(request.module, 'OPTIONS', '')}") as connection:
        yield connection
        for network in connection.networks():
            network.remove()
        connection.repair(orphans=True)
        assert rows(lab) == []


@pytest.fixture
def wires(lab: OVN) -> Iterator[dict[str, Wire]]:
    wires = {f"{c}{p}": Wire(lab.far(c, p)) for c, p in lab.host_ports}
    yield wires
    for wire in wires.values():
        wire.close()
