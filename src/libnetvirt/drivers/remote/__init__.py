"""The driver that talks to a served one: ``openflow+unix:///run/netvirt.sock``."""

from libnetvirt.drivers.remote.driver import RemoteDriver

__all__ = ["RemoteDriver"]
