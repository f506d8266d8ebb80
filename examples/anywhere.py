"""Create, change and remove a network with any driver: python anywhere.py URI

The program uses only the generic interface, so it runs unchanged with every driver:

    python anywhere.py test:///default
    python anywhere.py openflow+unix:///run/netvirt.sock
    python anywhere.py 'ovn:///?nb=unix:/var/run/ovn/ovnnb_db.sock&sb=unix:/var/run/ovn/ovnsb_db.sock'
"""

from __future__ import annotations

import sys

import libnetvirt
from libnetvirt import Endpoint, VirtualNetwork


def free_ports(connection: libnetvirt.Connection) -> list[tuple[str, str]]:
    """A free port of each switch, as (switch, port) of an endpoint's description."""
    found: list[tuple[str, str]] = []
    for switch in connection.substrate().switches:
        port = next((p.word for p in switch.ports if p.up and not p.use), None)
        if port is not None:
            found.append((switch.id, port))
    return found


def main() -> int:
    with libnetvirt.open(sys.argv[1] if len(sys.argv) > 1 else None) as connection:
        (one, first), (two, second), *_ = free_ports(connection)
        network = connection.create(
            VirtualNetwork(
                name="anywhere",
                endpoints=(
                    Endpoint(uuid="1", switch=one, port=first),
                    Endpoint(uuid="2", switch=two, port=second, vlan=20),
                ),
            )
        )
        print(f"{network.description().name} is {network.state().state}")
        network.add_endpoint(uuid="3", switch=one, port=first, vlan=30)
        print(f"{len(network.state().endpoints)} endpoints, {network.state().state}")
        for path in network.paths():
            if (path.source, path.destination) == ("1", "2"):
                print(f"1 reaches 2 over {len(path.hops)} switches")
        try:
            network.add_endpoint(uuid="4", switch=two, port=second, vlan=20)
        except libnetvirt.InvalidDescription as error:
            print(f"refused: {error}")
        for wanted in ("forwarding.L3", "endpoint.limits"):
            offered = wanted in connection.capabilities().features
            print(f"{wanted}: {'yes' if offered else 'no'}")
        network.remove()
        print(f"{len(connection.networks())} networks left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
