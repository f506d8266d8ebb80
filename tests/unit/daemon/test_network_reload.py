"""netvirtd on the network: start and reload, with new certificates and with wrong ones."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from libnetvirt import aio
from libnetvirt.errors import AddressInUse, InvalidDescription, StateUnusable
from tests.support.certificates import Authority
from tests.support.command_line import BLUE
from tests.support.network_netvirtd import HOSTS, Network


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def presented(network: Network) -> bytes:
    """The certificate that new connections get."""
    _, writer = await network.open()
    try:
        found: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return found.getpeercert(binary_form=True) or b""
    finally:
        writer.close()


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def test_a_reload_reads_certificates_again_and_touches_no_session(
    network: Network, authority: Authority
) -> None:
    second, old = authority.issue("second", hosts=HOSTS), authority.issue("late", days=-1, hosts=HOSTS)
    used = network.directory / "used"
    used.mkdir()
    certificate, key = used / "server.pem", used / "server.key"

    def put(one: Any) -> None:
        certificate.write_text(one.certificate.read_text())
        key.touch(0o600)
        key.write_text(one.key.read_text())

    put(network.server)
    network.server = type(network.server)(certificate, key)
    token = network.token("t")
    first = der(certificate)

    async def work() -> None:
        async with network.serving() as daemon, await aio.open(network.uri(token)) as session:
            events = session.events()
            reading = asyncio.ensure_future(anext(events))
            assert await presented(network) == first
            put(second)
            assert await presented(network) == first, "not before the reload"
            await daemon.reload()
            assert await presented(network) == der(second.certificate)
            for wrong, told in (
                (old, "has expired on"),
                (type(second)(second.certificate, old.key), "is not the key of the certificate"),
            ):
                put(wrong)
                with pytest.raises(InvalidDescription, match=told):
                    await daemon.reload()
                assert await presented(network) == der(second.certificate)
            certificate.unlink()
            with pytest.raises(InvalidDescription, match="there is no file"):
                await daemon.reload()
            while not reading.done():
                await session.create(BLUE)
                await (await session.lookup("blue")).remove()
                await asyncio.sleep(0.02)
            await events.aclose()  # type: ignore[attr-defined]

    run(work())


def test_what_is_wrong_at_the_start_is_one_error(network: Network, authority: Authority) -> None:
    async def start() -> None:
        async with network.serving():
            pass

    async def work() -> None:
        right = network.server
        network.server = authority.issue("out-of-date", days=-1)
        with pytest.raises(InvalidDescription, match=r"listeners\[2\]\.certificate: .* has expired on"):
            await start()
        network.server = right
        network.token("t")
        network.tokens.chmod(0o644)
        with pytest.raises(StateUnusable, match="chmod 600"):
            await start()
        network.tokens.chmod(0o600)
        async with await asyncio.start_server(lambda *_: None, "127.0.0.1", network.port):
            with pytest.raises(AddressInUse, match=f"127.0.0.1:{network.port}"):
                await start()
        await start()

    run(work())


def test_listeners_come_go_and_change_at_a_reload(network: Network, tmp_path: Path) -> None:
    people = Authority(tmp_path, "people")
    token = network.token("t")
    other = tmp_path / "other.json"

    async def work() -> None:
        async with network.serving() as daemon:
            with_tls = network.configuration()
            without = with_tls[: with_tls.index('[[listeners]]\nkind = "tls"')]
            daemon.write(without)
            assert await daemon.reload() == [f"no longer listening on 127.0.0.1:{network.port}"]
            with pytest.raises(ConnectionRefusedError):
                await network.open()
            daemon.write(with_tls)
            assert await daemon.reload() == [f"listening on 127.0.0.1:{network.port}"]
            assert (await network.ask(token, "GET", "/v1/networks"))[0] == 200
            # The authority of clients and the file of tokens change without a new listener.
            daemon.write(network.configuration(f'ca = "{people.certificate}"\n'))
            assert await daemon.reload() == ["the configuration has changed"]
            _, writer = await network.open(network.tls(people.issue("me")))
            writer.close()
            daemon.write(with_tls.replace(str(network.tokens), str(other)))
            await daemon.reload()
            assert (await network.ask(token, "GET", "/v1/networks"))[0] == 401
            # A file of tokens that cannot be used is refused, and the one before stays in use.
            daemon.write(with_tls)
            await daemon.reload()
            other.touch(0o644)
            daemon.write(with_tls.replace(str(network.tokens), str(other)))
            with pytest.raises(StateUnusable, match="chmod 600"):
                await daemon.reload()
            assert (await network.ask(token, "GET", "/v1/networks"))[0] == 200

    run(work())


def test_a_file_of_tokens_that_is_damaged_meanwhile_lets_nobody_in(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    token = network.token("t")

    async def work() -> None:
        async with network.serving():
            assert (await network.ask(token, "GET", "/v1/networks"))[0] == 200
            before = network.tokens.read_text()
            network.tokens.write_text(before[:-20])
            status, reply = await network.ask(token, "GET", "/v1/networks")
            assert status == 502
            assert b"its log tells why" in reply
            assert str(network.tokens).encode() not in reply
            assert f"the tokens in {network.tokens} are damaged" in caplog.text
            network.tokens.write_text(before)
            assert (await network.ask(token, "GET", "/v1/networks"))[0] == 200

    run(work())
