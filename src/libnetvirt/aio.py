"""The generic interface as coroutines: the same names as :mod:`libnetvirt`."""

from libnetvirt.connection import Applied, Connection, Network, open

__all__ = ["Applied", "Connection", "Network", "open"]
