"""The driver without any database."""

from __future__ import annotations

import asyncio

import pytest

from libnetvirt.driver import Change
from libnetvirt.drivers.ovn.opened import OpenedDriver
from libnetvirt.drivers.ovn.settings import OvnSettings
from libnetvirt.errors import ConnectionFailed
from libnetvirt.model import VirtualNetwork
from libnetvirt.uri import URI


def test_an_operation_fails_without_a_database_and_leaves_no_lock() -> None:
    async def create() -> OpenedDriver:
        driver = OpenedDriver(OvnSettings.from_uri(URI.parse("ovn:///?confirm-timeout=0.5")))
        network = VirtualNetwork.model_validate({"uuid": 7, "name": "n7", "endpoints": []})
        with pytest.raises(ConnectionFailed, match="OVN_Northbound"):
            await driver.apply(Change(None, network))
        return driver

    assert not asyncio.run(create())._locks
