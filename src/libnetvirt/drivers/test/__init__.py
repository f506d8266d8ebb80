"""The ``test`` driver: a substrate in memory that forwards with the oracle.

``test:///default`` needs nothing: four switches in a ring, each with eight ports for hosts. Other
substrates by options: see :class:`libnetvirt.drivers.test.driver.TestSettings`.

Frames do not really travel, so there are no rules to choose or to show: the ``rules`` of a network are
accepted and have no effect.
"""

from libnetvirt.drivers.test.driver import TestDriver, TestSettings
from libnetvirt.drivers.test.topology import SHAPES, Topology

__all__ = ["SHAPES", "TestDriver", "TestSettings", "Topology"]
