"""The generic interface as coroutines: the same names as :mod:`libnetvirt`."""

from libnetvirt.connection import Connection, open
from libnetvirt.model import Applied
from libnetvirt.network import Network

__all__ = ["Applied", "Connection", "Network", "open"]
