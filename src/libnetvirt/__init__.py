"""libnetvirt is to networks what libvirt is to machines.

``libnetvirt.open(uri)`` returns a connection to a driver; ``connection.create(...)`` makes an isolated
virtual network of the endpoints you name. ``libnetvirt.aio`` has the same as coroutines.
"""

from libnetvirt.blocking import Connection, Network, open
from libnetvirt.errors import (
    Conflict,
    ConnectionFailed,
    Fault,
    InvalidDescription,
    NetvirtError,
    NotFound,
    SubstrateError,
    Unsupported,
)
from libnetvirt.model import (
    Bandwidth,
    Constraint,
    Duration,
    Encapsulation,
    Endpoint,
    Event,
    Forwarding,
    Insertion,
    Limits,
    Route,
    Rules,
    State,
    Timeout,
    VirtualNetwork,
)

__version__ = "0.1.0"

__all__ = [
    "Bandwidth",
    "Conflict",
    "Connection",
    "ConnectionFailed",
    "Constraint",
    "Duration",
    "Encapsulation",
    "Endpoint",
    "Event",
    "Fault",
    "Forwarding",
    "Insertion",
    "InvalidDescription",
    "Limits",
    "NetvirtError",
    "Network",
    "NotFound",
    "Route",
    "Rules",
    "State",
    "SubstrateError",
    "Timeout",
    "Unsupported",
    "VirtualNetwork",
    "__version__",
    "open",
]
