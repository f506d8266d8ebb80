"""Hostile and mistaken clients on the network, with real TLS: each gets one clear sentence, or the door."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from libnetvirt import aio
from libnetvirt.configuration import tokens
from libnetvirt.daemon import door, http_protocol
from libnetvirt.errors import ConnectionFailed, DaemonUnreachable, InvalidURI, NetvirtError, TokenRefused
from tests.support.certificates import Authority
from tests.support.command_line import BLUE
from tests.support.network_netvirtd import HOSTS, Network, secret
from tests.support.waiting import awaited


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def refusal(uri: str) -> NetvirtError:
    """Why a session cannot be opened."""
    with pytest.raises(NetvirtError) as caught:
        await (await aio.open(uri)).close()
    assert "\n" not in str(caught.value)
    return caught.value


async def closed(reader: asyncio.StreamReader) -> bool:
    with suppress(OSError):
        while await reader.read(4096):
            pass
    return True


def test_a_client_does_not_talk_to_a_server_that_it_cannot_trust(
    network: Network, authority: Authority, tmp_path: Path
) -> None:
    others = Authority(tmp_path, "others")
    old, wrong = authority.issue("old", days=-1, hosts=HOSTS), authority.issue("wrong", hosts="DNS:elsewhere")
    token = network.token("t")

    def presented(certified: Any) -> asyncio.AbstractServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certified.certificate, certified.key)
        seen.clear()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.read(1000))
            writer.close()

        return asyncio.start_server(serve, "127.0.0.1", network.port, ssl=context)  # type: ignore[return-value]

    seen: list[bytes] = []
    cases = (
        (others.issue("theirs", hosts=HOSTS), "did not issue its certificate .*: name the file .* with ca="),
        (old, "its certificate has expired: renew it there, then 'netvirt reload'"),
        (wrong, "its certificate is not for 'localhost': write a name in the URI that the certificate has"),
    )

    async def work() -> None:
        for certified, told in cases:
            async with await presented(certified):  # type: ignore[misc]
                error = await refusal(network.uri(token))
            assert isinstance(error, ConnectionFailed)
            assert re.search(rf"the server on localhost:{network.port} is not trusted: .*{told}", str(error))
            assert not any(seen), "it has sent its token"
        # Without ca=, the authorities of the system.
        async with network.serving():
            error = await refusal(f"test+tls://localhost:{network.port}/?token-file={token}")
            assert "the authorities of this system did not issue its certificate" in str(error)
            async with await aio.open(network.uri(token, host="127.0.0.1")) as session:
                assert await session.descriptions() == []

    run(work())


def test_what_answers_otherwise_is_told(network: Network) -> None:
    token = network.token("t")

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def work() -> None:
        error = await refusal(network.uri(token))
        assert isinstance(error, DaemonUnreachable)
        assert "(connection refused): check the address, the firewalls" in str(error)
        async with await asyncio.start_server(plain, "127.0.0.1", network.port):
            assert "does not speak TLS as it has to" in str(await refusal(network.uri(token)))

    run(work())


def test_wrong_tokens_are_refused_and_told_in_no_log(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good = network.token("good")
    gone = network.token("gone")
    tokens.revoke(network.tokens, "gone")
    text = secret(good)
    wrong = [
        f"Bearer {text[:-1]}",
        f"Bearer {text}x",
        f"Bearer {secret(gone)}",
        f"Bearer {tokens.digest(text)}",
        f"Basic {text}",
        text,
        "Bearer",
        "Bearer  ",
        f"Bearer {'x' * 4000}",
        f"Bearer {text}\r\nauthorization: Bearer {text}",
        "Bearer ä",
    ]

    async def work() -> None:
        async with network.serving():
            for given in wrong:
                status, reply = await network.ask(given, "GET", "/v1/networks")
                assert status == 401, given
                assert b"netvirt token create" in reply
                assert text[8:] not in reply.decode()
            reader, writer = await network.open()
            writer.write(b"GET /v1/networks HTTP/1.1\r\nhost: x\r\n\r\n")
            reply = await reader.read()  # it is closed: no keep-alive for strangers
            assert b"www-authenticate: Bearer" in reply
            writer.close()
            error = await refusal(network.uri(gone))
            assert isinstance(error, TokenRefused)
            assert (error.exit_status, error.http_status) == (9, 401)
            assert "the server does not know this token, or it was revoked" in str(error)
            assert (await network.ask(f"bearer {text}", "GET", "/v1/networks"))[0] == 200

    run(work())
    for one in (text, secret(gone)):
        assert one[8:] not in caplog.text
    # At most ten lines a second, however many requests there are.
    assert 1 <= caplog.text.count("refused GET /v1/networks from 127.0.0.1") <= len(wrong) + 1


def test_refusals_are_logged_at_a_bounded_rate(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with network.serving(listener="tcp"):

            async def ask() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
                writer.write(b"GET /v1/networks HTTP/1.1\r\nhost: x\r\n\r\n")
                await reader.read()
                writer.close()

            began = asyncio.get_running_loop().time()
            for _ in range(20):
                await asyncio.gather(*(ask() for _ in range(20)))
            seconds = asyncio.get_running_loop().time() - began
            assert caplog.text.count("refused GET") <= 10 * (seconds + 2)
            assert caplog.text.count("refused GET") < 400

    run(work())


def test_a_body_without_a_token_is_not_read(network: Network) -> None:
    async def work() -> None:
        async with network.serving() as daemon:
            reader, writer = await network.open()
            writer.write(
                b"POST /v1/changes HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 9999
            )
            assert b" 401 " in (await reader.read())[:20]
            assert daemon.opened("a").service.bodies.held == 0
            writer.close()
            # Nor is a head without an end.
            reader, writer = await network.open()
            writer.write(b"GET /v1/networks HTTP/1.1\r\nx: " + b"y" * 2**18)
            assert b" 400 " in (await reader.read())[:20]
            writer.close()

    run(work())


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n", bytes(500)])
def test_a_handshake_that_does_not_end_is_ended(
    network: Network, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE", 0.3)

    async def work() -> None:
        token = network.token("t")
        async with network.serving():
            stranger = await asyncio.open_connection("127.0.0.1", network.port)
            stranger[1].write(sent)
            # Meanwhile others are served.
            async with await aio.open(network.uri(token)) as session:
                await session.descriptions()
            assert await closed(stranger[0])
            stranger[1].close()

    run(work())


def test_a_client_that_says_nothing_after_the_handshake_is_ended(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT", 0.2)

    async def work() -> None:
        async with network.serving():
            reader, writer = await network.open()
            assert b" 408 " in (await reader.read())[:20]
            writer.close()

    run(work())


def test_the_number_of_connections_is_bounded_and_those_that_end_count_no_more(
    network: Network,
) -> None:
    async def work() -> None:
        token = network.token("t")
        async with network.serving("max-connections = 4\n") as daemon:
            (place,) = [one for key, one in daemon.daemon._listeners._open.items() if key[0] == "tls"]
            # Half-open: no byte of a handshake. They hold their places.
            strangers = [socket.create_connection(("127.0.0.1", network.port)) for _ in range(4)]
            await awaited(lambda: place.door is not None and place.door.taken == 4)
            error = await refusal(network.uri(token))
            assert "it may have as many connections as it may have (max-connections)" in str(error)
            # The unix socket has its own.
            assert await daemon.names() == []
            for one in strangers:
                one.close()
            await awaited(lambda: place.door is not None and place.door.taken == 0)
            for _ in range(10):
                async with await aio.open(network.uri(token)) as session:
                    await session.descriptions()
            await awaited(lambda: place.door is not None and place.door.taken == 0)

    run(work())


def test_bytes_that_are_recorded_and_sent_again_do_nothing(network: Network) -> None:
    recorded: list[bytes] = []

    async def work() -> None:
        token = network.token("t")

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            onward = await asyncio.open_connection("127.0.0.1", network.port)

            async def back() -> None:
                while data := await onward[0].read(65536):
                    writer.write(data)
                writer.close()

            returning = asyncio.create_task(back())
            while data := await reader.read(65536):
                recorded.append(data)
                onward[1].write(data)
            onward[1].close()
            await asyncio.wait({returning})

        async with network.serving() as daemon, await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
            port = proxy.sockets[0].getsockname()[1]
            uri = network.uri(token).replace(f":{network.port}/", f":{port}/")
            async with await aio.open(uri) as session:
                recorded.clear()
                await session.create(BLUE)
            sent = b"".join(recorded)
            assert sent
            assert secret(token).encode() not in sent
            async with await aio.open(network.uri(token)) as session:
                await (await session.lookup("blue")).remove()
            reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
            writer.write(sent)
            assert await closed(reader)
            writer.close()
            assert await daemon.names() == []

    run(work())


def test_old_versions_of_tls_are_refused(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with network.serving():
            old = network.tls()
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1"):
                old.minimum_version = ssl.TLSVersion.TLSv1
            with pytest.warns(DeprecationWarning, match="TLSv1"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            with pytest.raises(OSError):
                await network.open(old)
            await awaited(lambda: "UNSUPPORTED_PROTOCOL" in caplog.text)

    run(work())


def test_client_certificates(network: Network, authority: Authority, tmp_path: Path) -> None:
    people = Authority(tmp_path, "people")
    mine, theirs = people.issue("me"), authority.issue("them")
    expired = people.issue("old", days=-1)
    token = network.token("t")

    def uri(certified: Any) -> str:
        return network.uri(token, f"&certificate={certified.certificate}&key={certified.key}")

    async def work() -> None:
        async with network.serving(f'ca = "{people.certificate}"\n'):
            async with await aio.open(uri(mine)) as session:
                assert await session.descriptions() == []
            for given, told in (
                (
                    network.uri(token),
                    "it may want a certificate of its clients: name yours with certificate= and key=",
                ),
                (uri(theirs), "it may not trust the authority of this client's certificate"),
                (uri(expired), "or that has expired: its log tells"),
            ):
                error = await refusal(given)
                assert isinstance(error, ConnectionFailed)
                assert told in str(error)
            reader, writer = await network.open(network.tls(mine))
            writer.write(b"GET /v1/networks HTTP/1.1\r\nhost: x\r\n\r\n")
            assert b" 401 " in (await reader.read())[:20], "a certificate does not replace the token"
            writer.close()

    run(work())


def test_a_session_outlives_a_restart_of_the_server_and_a_new_token(network: Network) -> None:
    async def work() -> None:
        token = network.token("t")
        async with network.serving():
            session = await aio.open(network.uri(token))
            await session.create(BLUE)
        with pytest.raises(DaemonUnreachable):
            await session.descriptions()
        async with network.serving():
            await session.create(BLUE)
            tokens.revoke(network.tokens, "t")
            with pytest.raises(TokenRefused):
                await session.descriptions()
            await asyncio.to_thread(network.token, "t")
            assert [one.name for one in await session.descriptions()] == ["blue"]
            await session.close()

    run(work())


def test_blocking_sessions_are_the_same(network: Network) -> None:
    async def work() -> None:
        token = network.token("t", "read")
        uri = network.uri(token)

        def use() -> None:
            with libnetvirt.open(uri) as session:
                assert session.descriptions() == []
                with pytest.raises(libnetvirt.errors.AccessDenied):
                    session.create(BLUE)

        async with network.serving():
            await asyncio.to_thread(use)

    run(work())


def test_wrong_uris_and_files_are_told(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = network.token("t")
    ca = network.authority.certificate
    loose = tmp_path / "loose"
    loose.write_text(secret(token))
    loose.chmod(0o644)
    two = tmp_path / "two"
    two.touch(0o600)
    two.write_text("two words")
    base = f"test+tls://localhost:{network.port}/"
    cases = (
        ("test+tls:///run/x.sock", "does not name a server: write its name and port"),
        ("test+tls://localhost/", "does not name a server: write its name and port"),
        (f"{base}?ca={ca}", "no token: name a file that has it with token-file=, or set LIBNETVIRT_TOKEN"),
        (f"{base}?token-file=/none", "token-file='/none': the file cannot be read"),
        (f"{base}?token-file={loose}", f"everybody can read or change the file: chmod o= {loose}"),
        (f"{base}?token-file={two}", "it is not a token"),
        (f"{base}?token-file={token}&ca={token}", "the file has no certificate in PEM"),
        (f"{base}?token-file={token}&ca=/none", "option ca='/none': the file cannot be read"),
        (f"{base}?token-file={token}&key={ca}", "option key without certificate: give both"),
        (f"{base}?token-file={token}&key={ca}&certificate={ca}", "they do not fit, are not PEM"),
        (f"{base}?token={secret(token)}", "unknown option token"),
    )

    async def work() -> None:
        for uri, told in cases:
            error = await refusal(uri)
            assert isinstance(error, InvalidURI)
            assert told in str(error), uri
        async with network.serving():
            monkeypatch.setenv("LIBNETVIRT_TOKEN", secret(token))
            async with await aio.open(f"{base}?ca={ca}") as session:
                assert await session.descriptions() == []

    run(work())
