"""Listening for switches."""

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


def test_messages_to_switches_do_not_wait_for_acknowledgements() -> None:
    """TCP_NODELAY is set, as asyncio's own servers do: without it, a flow set-up over several switches takes
    40 ms."""

    async def story() -> None:
        made: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

        class Session(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.set_result(transport)

        server = await Listen.parse("127.0.0.1:0").open(Session, None, lambda *_: None, lambda _: None)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await made
        assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.close()
        writer.close()
        server.close()
        await server.wait_closed()

    asyncio.run(story())
