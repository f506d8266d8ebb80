"""Listening for switches at a unix socket."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.errors import AddressInUse


def test_the_socket_of_a_killed_controller_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "of.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))

    async def story() -> None:
        listen = Listen.parse(f"unix:{path}")
        server = await listen.open(asyncio.Protocol, None, lambda *_: None, lambda _: None)
        with pytest.raises(AddressInUse, match="another server answers"):
            await listen.open(asyncio.Protocol, None, lambda *_: None, lambda _: None)
        server.close()
        path.unlink(missing_ok=True)
        path.write_text("something else")
        with pytest.raises(AddressInUse, match="is not a socket"):
            await listen.open(asyncio.Protocol, None, lambda *_: None, lambda _: None)
        assert path.read_text() == "something else"

    asyncio.run(story())
