"""The client of a served driver: ``openflow+unix:///run/netvirt.sock``."""

from libnetvirt.drivers.remote.driver import RemoteDriver

__all__ = ["RemoteDriver"]
