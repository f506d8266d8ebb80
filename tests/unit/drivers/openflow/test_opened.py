"""What a session of the openflow driver offers, as its URI says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt.drivers.openflow.opened import OpenedDriver
from libnetvirt.errors import Unsupported
from libnetvirt.uri import URI


@pytest.mark.parametrize("kept", [True, False])
def test_a_session_that_keeps_nothing_offers_no_backup_and_says_why(tmp_path: Path, kept: bool) -> None:
    state = str(tmp_path / "state.db") if kept else ":memory:"
    uri = f"openflow:///?listen=unix:{tmp_path}/switches&state={state}"

    async def offered() -> dict[str, str]:
        driver = await OpenedDriver.open(URI.parse(uri))
        try:
            assert ("backup" in driver.capabilities.features) is kept
            return dict(driver.capabilities.reasons)
        finally:
            await driver.close()

    reasons = asyncio.run(offered())
    assert reasons.get("backup") == (None if kept else "it keeps no state (state=:memory:)")
    with libnetvirt.open(uri) as connection:
        if kept:
            assert connection.backup()
        else:
            with pytest.raises(Unsupported, match="it keeps no state"):
                connection.backup()
