"""The ``test`` driver: a simulated substrate in memory that forwards frames with the oracle.

``test:///default`` needs no set-up: it has four switches in a ring, each with eight host ports. Options
choose other substrates, see :data:`libnetvirt.drivers.test.driver.OPTIONS`.

The simulated switches have no rules. The ``rules`` of a network are accepted and have no effect.
"""

from libnetvirt.drivers.test.driver import OPTIONS, TestDriver
from libnetvirt.drivers.test.topology import TOPOLOGIES, Topology

__all__ = ["OPTIONS", "TOPOLOGIES", "TestDriver", "Topology"]
