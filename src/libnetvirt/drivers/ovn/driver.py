"""The ovn driver as it is found by its name: its options, and what it offers.

Commands that open no connection need no more. The rest is imported with the first connection
(`libnetvirt.drivers.ovn.opened`).
"""

from __future__ import annotations

from libnetvirt.driver import Capabilities, Driver
from libnetvirt.drivers.ovn.capabilities import CAPABILITIES
from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.uri import URI


class OvnDriver(Driver):
    """Virtual networks on OVN. The northbound database is the only durable state."""

    settings = OvnSettings

    @classmethod
    def offers(cls) -> Capabilities:
        return CAPABILITIES

    @classmethod
    async def open(cls, uri: URI) -> Driver:
        from libnetvirt.drivers.ovn.opened import OpenedDriver

        return await OpenedDriver.open(uri)
