"""The ``test`` driver: a simulated substrate in memory that forwards frames with the oracle.

``test:///default`` needs no set-up: it has four switches in a ring, each with eight host ports. Options
choose other substrates, see :class:`libnetvirt.drivers.test.driver.TestSettings`.

The simulated switches have no rules. The ``rules`` of a network are accepted and have no effect.
"""

from libnetvirt.drivers.test.driver import TestDriver, TestSettings
from libnetvirt.drivers.test.topology import TOPOLOGIES, Topology

__all__ = ["TOPOLOGIES", "TestDriver", "TestSettings", "Topology"]
