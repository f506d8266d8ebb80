"""A private Open vSwitch network for tests: real switches, links that can be cut, hosts that are raw sockets.

``private_network_namespace()`` once per process, then ``with Lab(...) as lab``. Everything lives in the
process's own network namespace and in a temporary directory, and vanishes with the process.
"""

from tests.support.lab.namespace import private_network_namespace, why_not
from tests.support.lab.network import Arrival, Lab

__all__ = ["Arrival", "Lab", "private_network_namespace", "why_not"]
