"""OpenFlow over TLS: which peers pass the handshake, in memory and with real switches."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.conformance.support.testbed import Testbed, clean
from libnetvirt.drivers.openflow.options import OpenFlowSettings
from libnetvirt.drivers.openflow.southbound.listener import Listen
from libnetvirt.drivers.openflow.southbound.tls import Credentials
from libnetvirt.uri import URI
from tests.support.certificates import Certified, Pki
from tests.support.free_port import free_port
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT
from tests.support.openflow_harness import OpenFlow
from tests.support.waiting import awaited, eventually

SWITCHES = Path(__file__).parents[3] / "docs" / "switches.md"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def _controller(options: str) -> Credentials:
    identity = OpenFlowSettings.from_uri(URI.parse(f"openflow:///?listen=127.0.0.1:0{options}")).identity()
    assert identity is not None
    return Credentials(identity, lambda report: pytest.fail(report))


def _client(pki: Pki, shown: Certified | None, ca: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(ca or pki.controllers.certificate)
    if shown:
        context.load_cert_chain(*shown)
    return context


class Told(asyncio.Protocol):
    """Notes what comes, and answers."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.heard = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.stand.sessions.append(self)

    def data_received(self, data: bytes) -> None:
        self.heard += data
        if self.heard.endswith(b"?"):
            self.transport.write(b"heard " + self.heard)  # type: ignore[attr-defined]


class Stand:
    """Listens on the loopback interface."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.sessions: list[Told] = []
        self.port = 0

    def session(self) -> Told:
        return Told(self)


def _run(pki: Pki, story: Callable[[Stand], Awaitable[None]], options: str = "") -> Stand:
    stand, credentials = Stand(), _controller(pki.options + options)

    async def whole() -> None:
        listen = Listen("127.0.0.1", 0, secure=True)
        server = await listen.open(
            stand.session, credentials.context, lambda *r: stand.refused.append(r), print
        )
        stand.port = server.sockets[0].getsockname()[1]
        try:
            await story(stand)
        finally:
            server.close()

    asyncio.run(whole())
    return stand


def test_data_of_a_verified_switch_is_received_completely(pki: Pki) -> None:
    async def story(stand: Stand) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = _client(pki, pki.switch)
            context.minimum_version = context.maximum_version = version
            # Said at once, with the end of the handshake.
            reader, writer = await asyncio.open_connection("127.0.0.1", stand.port, ssl=context)
            writer.write(b"who?")
            assert await reader.readexactly(10) == b"heard who?"
            writer.close()
            await writer.wait_closed()

    stand = _run(pki, story)
    assert not stand.refused
    assert len(stand.sessions) == 2


def _knock(context: ssl.SSLContext, port: int) -> bytes:
    """What a switch hears, if it gets in; not with asyncio, which keeps to itself what it does not like about
    the other side."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.sendall(b"let me in?")
        return secured.recv(100)
    return b""


def test_a_certificate_revoked_at_run_time_is_refused(pki: Pki) -> None:
    lost, kept = pki.switches.issue("lost"), pki.switches.issue("kept")
    revoked = pki.switches.revoke()

    async def story(stand: Stand) -> None:
        async def knocks(shown: Certified) -> bytes:
            return await asyncio.to_thread(_knock, _client(pki, shown), stand.port)

        assert await knocks(lost) == b"heard let me in?"
        pki.switches.revoke(lost)
        assert await knocks(lost) == b""
        await awaited(lambda: stand.refused)
        assert await knocks(kept) == b"heard let me in?"

    stand = _run(pki, story, f"&crl={revoked}")
    assert [reason for _, reason in stand.refused] == ["its certificate is not valid: certificate revoked"]


@pytest.mark.parametrize(
    ("shown", "ca", "said"),
    [
        (None, None, "it presented no certificate"),
        ("stranger", None, "its certificate is not valid: unable to get local issuer certificate"),
        ("expired", None, "its certificate is not valid: certificate has expired"),
        ("switch", "others", "it does not trust the authority that signed the controller's certificate"),
    ],
)
def test_an_unverified_peer_does_not_pass_the_handshake(
    pki: Pki, shown: str | None, ca: str | None, said: str
) -> None:
    context = _client(
        pki, getattr(pki, shown) if shown else None, getattr(pki, ca).certificate if ca else None
    )

    async def story(stand: Stand) -> None:
        await asyncio.to_thread(_knock, context, stand.port)
        await awaited(lambda: stand.refused)

    stand = _run(pki, story)
    assert not stand.sessions
    ((address, reason),) = stand.refused
    assert address.startswith("127.0.0.1:")
    assert reason.startswith(said)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"\x04\0\0\x08\0\0\0\x01", "it does not speak TLS: use ssl:"),
        (b"GET / HTTP/1.1\r\n\r\n", "it is not a switch"),
        (b"", "it aborted the TLS handshake"),
        (b"\x16\x03\x01\x00\x05\x01\x00", "it aborted the TLS handshake"),
        (b"\xff" * 3000, "it does not speak TLS"),
    ],
    ids=["openflow", "http", "nothing", "half a hello", "junk"],
)
def test_a_peer_without_tls_is_refused(pki: Pki, sent: bytes, said: str) -> None:
    async def story(stand: Stand) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", stand.port)
        writer.write(sent)
        if len(sent) < 8:
            writer.write_eof()
        await awaited(lambda: stand.refused)
        writer.close()

    stand = _run(pki, story)
    assert not stand.sessions
    assert stand.refused[0][1].startswith(said)


def test_an_old_version_of_tls_is_refused(pki: Pki) -> None:
    async def story(stand: Stand) -> None:
        process = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-connect", f"127.0.0.1:{stand.port}", "-tls1_1",
            "-cipher", "DEFAULT:@SECLEVEL=0", stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        await process.wait()
        await awaited(lambda: stand.refused)

    stand = _run(pki, story)
    assert not stand.sessions
    assert stand.refused[0][1].startswith("it speaks TLS 1.1 or older")


def test_many_open_handshakes_do_not_lock_out_others(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libnetvirt.drivers.openflow.southbound.tls.HANDSHAKE_LIMIT", 3)

    async def story(stand: Stand) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", stand.port) for _ in range(10)]
        reader, writer = await asyncio.open_connection("127.0.0.1", stand.port, ssl=_client(pki, pki.switch))
        writer.write(b"who?")
        assert await reader.readexactly(10) == b"heard who?"
        # The first of the silent ones had to go.
        assert await silent[0][0].read() == b""
        for one in (writer, *(w for _, w in silent)):
            one.close()
            with contextlib.suppress(OSError):
                await one.wait_closed()

    assert len(_run(pki, story).sessions) == 1


def _page() -> dict[str, str]:
    """The commands of docs/switches.md that are marked to be run, by mark."""
    return dict(re.findall(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", SWITCHES.read_text(), re.DOTALL))


@pytest.mark.root
@pytest.mark.timeout(180)
def test_the_documented_commands_make_working_certificates(tmp_path: Path) -> None:
    blocks = _page()
    assert list(blocks) == ["authority", "controller", "switch", "list", "revoke"]
    port = free_port()
    with Lab(1) as lab, contextlib.ExitStack() as ends:
        for directory in ("netvirt", "openvswitch"):
            (tmp_path / directory).mkdir()

        def run(mark: str) -> None:
            text = blocks[mark].replace("/etc/", f"{tmp_path}/").replace("/run/", f"{tmp_path}/")
            text = text.replace("br0", lab.bridge(1)).replace("192.0.2.1:6653", f"127.0.0.1:{port}")
            text = text.replace("0.0.0.0:6653", f"127.0.0.1:{port}&state=:memory:")
            text = text.replace("netvirt serve", f"exec setpriv --pdeathsig KILL {NETVIRT} serve")
            process = subprocess.Popen(
                ["bash", "-ec", text], cwd=tmp_path, env=lab.ovs.environment,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
            ends.callback(process.communicate)
            ends.callback(process.kill)
            if "exec" not in text:
                assert process.wait(30) == 0, process.communicate()[0]
                return
            assert process.stdout is not None
            assert process.stdout.readline().startswith("serving ")

        blocks["controller"] = blocks["controller"].replace(
            "/switchca.pem'", "/switchca.pem&crl=/etc/netvirt/revoked.pem'"
        )
        for mark in ("authority", "list", "controller", "switch"):
            run(mark)
        with libnetvirt.open(f"openflow+unix://{tmp_path}/netvirt.sock") as connection:
            substrate = connection.substrate
            eventually(lambda: any(s.connected for s in substrate().switches), "the switch is connected")
            run("revoke")
            lab.ovs.vsctl("del-controller", lab.bridge(1))
            run("switch")
            eventually(lambda: any("certificate revoked" in n for n in substrate().notes), "it is refused")


@pytest.fixture(scope="module")
def harness(private_namespace: None, pki: Pki) -> Iterator[OpenFlow]:  # noqa: ARG001
    harness = OpenFlow(3, [(1, 2), (2, 3)], options=pki.options)
    harness.certified = pki.switch, pki.controllers.certificate
    with harness:
        yield harness


def _connected(harness: OpenFlow) -> set[str]:
    return {s.id for s in harness.connection.substrate().switches if s.connected}


@pytest.mark.root
@pytest.mark.timeout(180)
def test_networks_work_over_tls(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    assert harness.served.target.startswith("ssl:")
    guests = testbed.guests(testbed.create(*testbed.places(3)))
    testbed.announce(*guests)
    testbed.check_reachability(guests)
    assert list(clean(testbed)) == []


@pytest.mark.root
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("shown", "ca", "said"),
    [
        ("stranger", "controllers", "its certificate is not valid: unable to get local issuer"),
        ("expired", "controllers", "its certificate is not valid: certificate has expired"),
        ("switch", "others", "it does not trust the authority that signed the controller's"),
    ],
)
def test_peers_without_a_common_authority_do_not_connect(
    harness: OpenFlow, pki: Pki, shown: str, ca: str, said: str
) -> None:
    reader = EventReader(harness.connection)
    testbed = Testbed(harness, None)
    harness.lab.release()
    testbed.eventually(lambda: _connected(harness), "no switch is connected")
    harness.certify(getattr(pki, shown), getattr(pki, ca).certificate)
    try:
        harness.lab.control(harness.served.target)

        def unreported() -> list[str]:
            found = [e.message for e in reader.events if e.kind == "switch.refused"]
            return [] if any("127.0.0.1:" in m and said in m for m in found) else found or ["nothing"]

        testbed.eventually(unreported, "an event names address and reason")
        assert any(said in note for note in harness.connection.substrate().notes)
        assert not _connected(harness)
    finally:
        harness.certify(pki.switch, pki.controllers.certificate)
        harness.lab.control(harness.served.target)
        testbed.await_links()
    testbed.eventually(lambda: _connected(harness) != {"1", "2", "3"}, "all are connected again")
    testbed.eventually(lambda: harness.connection.substrate().notes, "nothing is said any more")


@pytest.mark.root
@pytest.mark.timeout(180)
def test_a_switch_without_tls_is_refused_without_effect_on_others(harness: OpenFlow) -> None:
    testbed = Testbed(harness, None)
    guests = testbed.guests(testbed.create(*testbed.places(3)))
    testbed.announce(*guests)
    harness.lab.control(harness.served.target.replace("ssl:", "tcp:"), [1])
    try:
        testbed.eventually(
            lambda: not any("does not speak TLS" in n for n in harness.connection.substrate().notes),
            "the switch is refused",
        )
        assert _connected(harness) == {"2", "3"}
        testbed.check_reachability(guests)
    finally:
        harness.lab.control(harness.served.target)
        testbed.await_links()
    testbed.eventually(lambda: _connected(harness) != {"1", "2", "3"}, "all are connected again")
    assert list(clean(testbed)) == []
