"""The thin client, with real servers: on a unix socket in a process of its own, and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from libnetvirt import errors, thin
from libnetvirt.thin.client import Client
from tests.support.certificates import Authority
from tests.support.netvirt_server import Served
from tests.support.network_netvirtd import HOSTS, Network

BLUE: dict[str, Any] = {
    "uuid": 7,
    "name": "blue",
    "endpoints": [
        {"uuid": 11, "switch": 1, "port": 2},
        {"uuid": 12, "switch": 4, "port": 1, "vlan": 20, "mac": ["02:00:00:00:00:12"]},
    ],
}
RED = {"name": "red", "endpoints": [{"uuid": 1, "switch": 1, "port": 3}]}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(uri=f"test:///default?state={tmp_path_factory.mktemp('thin')}/state.db")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def served(running: Served) -> Iterator[Served]:
    """A server without networks."""
    yield running
    with libnetvirt.open(running.client_uri) as conn:
        for network in conn.networks():
            network.remove()


@pytest.fixture
def relay(served: Served, tmp_path: Path) -> Iterator[Relay]:
    with contextlib.closing(Relay(served.socket, tmp_path / "relay.sock")) as relay:
        yield relay


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with thin.connect(served.client_uri) as client:
        yield client


def _described(served: Served) -> dict[str, libnetvirt.VirtualNetwork]:
    """What another client sees, by name."""
    with libnetvirt.open(served.client_uri) as conn:
        return {one.name: one for one in conn.descriptions()}


def test_a_network_is_created_changed_and_removed(served: Served, client: Client) -> None:
    made = client.create(BLUE)
    assert (made["uuid"], made["name"]) == ("7", "blue")
    assert client.networks() == [made]
    assert client.network("blue") == client.network(7) == made
    assert libnetvirt.VirtualNetwork(**BLUE) == _described(served)["blue"]
    assert client.state("blue")["state"] == "active"

    added = client.add_endpoint("blue", {"uuid": 13, "switch": 2, "port": 1})
    assert (added["uuid"], added["switch"], added["port"]) == ("13", "2", "1")
    assert added == client.network("blue")["endpoints"][-1]
    changed = client.modify_endpoint(7, 12, {"vlan": None, "mpls": 500})
    assert changed["mpls"] == 500
    assert "vlan" not in changed
    assert changed["mac"] == ["02:00:00:00:00:12"]
    seen = _described(served)["blue"]
    assert [(one.uuid, one.vlan, one.mpls) for one in seen.endpoints] == [
        ("11", None, None), ("12", None, 500), ("13", None, None),
    ]  # fmt: skip

    client.remove_endpoint("blue", 12)
    assert [one.uuid for one in _described(served)["blue"].endpoints] == ["11", "13"]
    client.remove("blue")
    assert client.networks() == []
    assert _described(served) == {}


def test_a_network_without_a_uuid_gets_one(client: Client) -> None:
    made = client.create(RED)
    assert client.network(made["uuid"]) == client.network("red") == made
    again = {**RED, "name": "RED", "uuid": "4A0C7C5E-6A52-4B57-A0A5-0D6F21A0B3C1", "endpoints": []}
    assert client.create(again)["name"] == "RED"


def test_uuids_are_found_again_however_they_were_written(client: Client) -> None:
    assert client.create({**RED, "uuid": " 018"})["uuid"] == "18"
    assert client.add_endpoint(18, {"uuid": "014", "switch": 2, "port": 3})["uuid"] == "14"
    with pytest.raises(errors.AlreadyExists):
        client.add_endpoint(18, {"uuid": "0014", "switch": 2, "port": 4})


@pytest.mark.parametrize("given", [[], "name: x", None])
def test_what_is_no_mapping_is_refused(client: Client, given: Any) -> None:
    with pytest.raises(errors.InvalidDescription, match="is a mapping of its fields"):
        client.create(given)
    assert client.networks() == []


def test_other_parts_of_a_description_are_edited_and_constraints_go_with_endpoints() -> None:
    served = Served()  # openflow, without switches
    there, back = ({"source": a, "destination": b, "max-hops": 4} for a, b in (("11", "12"), ("12", "11")))
    try:
        served.start()
        with thin.connect(served.client_uri) as client:
            client.create({**BLUE, "constraints": [there]}, pending=True)
            client.add_endpoint("blue", {"uuid": 13, "switch": 2, "port": 1}, pending=True)
            kept = {**there, "destination": "13"}
            after = client.edit("blue", lambda now: {**now, "constraints": [there, back, kept]}, pending=True)
            assert after["constraints"] == [there, back, kept]
            client.remove_endpoint("blue", 12)
            assert client.network("blue")["constraints"] == [kept]
            assert len(client.network("blue")["endpoints"]) == 2
    finally:
        served.stop()


def test_an_endpoint_may_be_pending(client: Client) -> None:
    far = {"uuid": 1, "switch": 99, "port": 1}
    with pytest.raises(errors.SwitchNotFound):
        client.create({"name": "far", "endpoints": [far]})
    client.create({"name": "far", "endpoints": [far]}, pending=True)
    assert client.state("far")["state"] == "pending"


@pytest.mark.parametrize(
    ("error", "code", "call"),
    [
        (errors.NetworkNotFound, "network-not-found", lambda c: c.remove("green")),
        (errors.NetworkNotFound, "network-not-found", lambda c: c.network("../networks")),
        (errors.AlreadyExists, "already-exists", lambda c: c.create(BLUE)),
        (errors.AlreadyExists, "already-exists", lambda c: c.add_endpoint("blue", {"uuid": 11})),
        (errors.EndpointNotFound, "endpoint-not-found", lambda c: c.remove_endpoint("blue", 99)),
        (errors.EndpointNotFound, "endpoint-not-found", lambda c: c.modify_endpoint("blue", 99, {})),
        (errors.InvalidDescription, "invalid-description", lambda c: c.modify_endpoint(7, 11, {"uuid": 5})),
        (errors.InvalidDescription, "invalid-description", lambda c: c.add_endpoint(7, {"switch": 1})),
        (errors.PortNotFound, "port-not-found", lambda c: c.modify_endpoint("blue", 11, {"port": 99})),
        (errors.NotFound, "not-found", lambda c: c.get("nothing")),
        (errors.NotFound, "not-found", lambda c: c.withdraw("not-running")),
    ],
)
def test_errors_are_those_of_the_library_with_its_codes(
    client: Client, error: type[errors.NetvirtError], code: str, call: Callable[[Client], Any]
) -> None:
    before = client.create(BLUE)
    with pytest.raises(error) as caught:
        call(client)
    assert caught.value.code == code
    assert client.networks() == [before]


def test_an_endpoint_that_is_claimed_names_its_holder_and_all_faults_are_listed(client: Client) -> None:
    client.create(BLUE)
    with pytest.raises(errors.EndpointClaimed) as claimed:
        client.create({"name": "red", "endpoints": [{"uuid": 1, "switch": 1, "port": 2}]})
    assert (claimed.value.network, claimed.value.endpoint) == ("7", "11")
    with pytest.raises(errors.InvalidDescription) as wrong:
        client.create({"name": "red", "colour": 1, "endpoints": [{"uuid": 0, "switch": 1, "port": 2}]})
    assert len(wrong.value.faults) == 2


def test_a_change_is_tried_again_when_another_client_was_faster(served: Served, client: Client) -> None:
    client.create(BLUE)
    calls: list[thin.Document] = []

    def rename(now: thin.Document) -> thin.Document:
        if not calls:
            with libnetvirt.open(served.client_uri) as conn:
                conn.lookup("blue").remove_endpoint("12")
        calls.append(now)
        return {**now, "name": "azure"}

    client.edit("blue", rename)
    assert len(calls) == 2
    assert [one.uuid for one in _described(served)["azure"].endpoints] == ["11"]


def test_operations_have_the_name_that_was_given(client: Client) -> None:
    with client.events() as events:
        client.create(BLUE, operation="ticket-4711")
        event = next(one for one in events if one["kind"] == "network.created")
    assert event["operation"] == "ticket-4711"


def test_a_change_that_is_not_waited_for_is_looked_at_and_cancelled(served: Served, client: Client) -> None:
    begun = client.begin(None, BLUE, operation="ticket-1")
    assert (begun["id"], begun["kind"], begun["network"]) == ("ticket-1", "create", "7")
    ended = client.operation("ticket-1", wait=20)
    assert ended["state"] == "succeeded"
    assert client.cancel("ticket-1") == ended == client.operation("ticket-1")
    made = client.network("blue")
    failed = client.operation(client.begin(None, BLUE)["id"], wait=20)
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "already-exists")
    with thin.connect(served.client_uri, timeout=20) as hasty:
        assert hasty.operation(hasty.begin(made, None)["id"], wait=20)["state"] == "succeeded"
    assert client.networks() == []
    with pytest.raises(errors.NotFound, match="the server was restarted"):
        client.operation("unknown")


def test_reading_goes_on_when_the_server_was_restarted(served: Served, client: Client) -> None:
    made = client.create(BLUE)
    assert client.network("blue") == made
    served.kill()
    with pytest.raises(errors.DaemonUnreachable, match=f"no server answers on {served.socket}"):
        client.network("blue")
    served.start()
    assert client.network("blue") == made
    served.kill()
    served.start()
    assert client.network("blue") == made  # the connection was idle


def test_a_change_whose_reply_is_lost_is_sent_again_and_carried_out_once(
    client: Client, relay: Relay
) -> None:
    with thin.connect(f"test+unix://{relay.path}") as far, client.events() as events:
        relay.replies_to_lose = 1
        made = far.create(BLUE)
        assert relay.replies_to_lose == 0
        assert client.networks() == [made]
        far.remove("blue")
        assert [_next(events), _next(events)] == ["network.created", "network.removed"]
        relay.replies_to_lose = 2
        with pytest.raises(errors.ConnectionFailed, match="check whether the request took effect"):
            far.create(BLUE)
    assert [one["name"] for one in client.networks()] == ["blue"]


# ---- events ----------------------------------------------------------------------------------------


def _next(events: Iterator[dict[str, Any]]) -> str:
    """The kind of the next event that is not about an endpoint."""
    return next(str(event["kind"]) for event in events if event["kind"] != "endpoint.state")


def test_events_come_from_now_on_or_after_a_known_one(client: Client) -> None:
    client.create(RED)
    with client.events() as events:
        client.create(BLUE)
        assert _next(events) == "network.created"
        kept = events.last
    client.remove("blue")
    client.create(BLUE)
    with client.events(after=kept) as events:
        assert [_next(events), _next(events)] == ["network.removed", "network.created"]


def test_a_reader_whose_connection_is_lost_continues_without_a_gap(client: Client, relay: Relay) -> None:
    found = []
    with thin.connect(f"test+unix://{relay.path}") as far, far.events() as events:
        client.create(BLUE)
        for _ in range(3):
            found.append(next(events)["id"])
            relay.cut()
            client.modify_endpoint("blue", 11, {"port": 4 if len(found) % 2 else 2})
        client.remove("blue")
        for event in events:
            found.append(event["id"])
            if event["kind"] == "network.removed":
                break
    first, last = (int(one.rpartition("-")[2]) for one in (found[0], found[-1]))
    assert [int(one.rpartition("-")[2]) for one in found] == list(range(first, last + 1))
    assert len(found) >= 5


def test_a_reader_is_told_that_events_may_be_lost(served: Served, client: Client) -> None:
    with client.events() as events:
        served.kill()  # before the first event, and with it all that the server remembers
        served.start()
        event = next(events)
        assert (event["kind"], event["fields"]["count"]) == ("events.lost", "an unknown number of")
        client.create(BLUE)
        assert _next(events) == "network.created"
        served.kill()
        served.start()
        assert _next(events) == "events.lost"
        client.remove("blue")
        assert _next(events) == "network.removed"


def test_a_server_that_does_not_come_back_is_given_up(served: Served, client: Client) -> None:
    with client.events(wait=0.3) as events:
        served.kill()
        with pytest.raises(errors.ConnectionFailed):
            next(events)
    served.start()


def test_closing_ends_a_reader_that_waits(client: Client) -> None:
    client.create(BLUE)
    events = client.events()
    found: list[list[Any]] = []
    reader = threading.Thread(target=lambda: found.append(list(events)))
    reader.start()
    client.remove("blue")
    deadline = time.monotonic() + 20
    while not events.last:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)  # it most probably waits again now; the result is the same if it does not
    events.close()
    reader.join(20)
    assert not reader.is_alive()
    assert found[0][-1]["kind"] == "network.removed"


class Relay:
    """Passes bytes between a socket of its own and another one."""

    def __init__(self, target: Path, path: Path) -> None:
        self.path, self._target = path, target
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._sockets: list[socket.socket] = []
        #: so many replies are not passed on: the connection ends instead
        self.replies_to_lose = 0
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket(socket.AF_UNIX)
                self._sockets += [near, far]
                far.connect(str(self._target))
                for one, other in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._copy, args=(one, other, one is far))
                    self._threads.append(thread)
                    thread.start()

    def _copy(self, source: socket.socket, target: socket.socket, back: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                if back and self.replies_to_lose:
                    self.replies_to_lose -= 1
                    break
                target.sendall(piece)
        _shut(target)

    def cut(self) -> None:
        """End all connections."""
        for one in self._sockets:
            _shut(one)

    def close(self) -> None:
        _shut(self._listening)
        self._accepting.join(20)
        self.cut()
        for thread in self._threads:
            thread.join(20)
        for one in (self._listening, *self._sockets):
            one.close()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)


# ---- where servers are -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("test:///default", "names no server"),
        ("test+unix://host/n.sock", "absolute path"),
        ("test+unix:///n.sock?ca=x", "unknown option ca: allowed are connection"),
        ("test+unix:///n.sock?wait=1", "unknown option wait"),
        ("test+tls://host/?token-file=x", "write its name and port"),
        ("test+tls://host:1/?ca=/nowhere", "cannot be read"),
        ("test+tls://host:1/?certificate=x", "give both, or none"),
        ("test+tls://host:1/?token-file=/nowhere", "'/nowhere': the file cannot be read"),
        ("test+tls://host:1/", "the environment variable LIBNETVIRT_TOKEN: it is not a token"),
    ],
)
def test_a_wrong_uri_is_refused_with_the_reason(uri: str, text: str) -> None:
    with pytest.raises(errors.InvalidURI, match=text):
        thin.connect(uri)


def test_a_server_of_another_driver_and_something_else_are_told(served: Served, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidURI, match="names the driver ovn, and the server serves test"):
        thin.connect(f"ovn+unix://{served.socket}")
    with pytest.raises(errors.NotFound):
        thin.connect(f"{served.client_uri}?connection=other")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "mute.sock"))
        mute.listen()
        with pytest.raises(errors.ConnectionFailed, match=r"did not reply within 0\.2 s"):
            thin.connect(f"test+unix://{tmp_path}/mute.sock", timeout=0.2)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("thin"), "ours")


def test_over_tls_a_token_decides(tmp_path: Path, authority: Authority) -> None:
    network = Network(tmp_path, authority, authority.issue("server", hosts="DNS:localhost"))
    admin, reader = network.token("admin"), network.token("reader", "read")
    stranger = tmp_path / "stranger"
    stranger.write_text("netvirt_" + "x" * 40)
    other = Authority(tmp_path, "other")

    def use() -> None:
        with thin.connect(network.uri(admin)) as client:
            client.create(RED)
            assert client.network("red")["name"] == "red"
            with client.events() as events:
                client.remove("red")
                assert next(events)["kind"] == "network.removed"
        with thin.connect(network.uri(admin, "&connection=b")) as client:
            assert client.networks() == []
        with thin.connect(network.uri(reader)) as client:
            assert client.networks() == []
            with pytest.raises(errors.AccessDenied) as denied:
                client.create(RED)
            assert denied.value.code == "access-denied"
        with pytest.raises(errors.TokenRefused) as refused:
            thin.connect(network.uri(stranger))
        assert refused.value.code == "token-refused"
        with pytest.raises(errors.ConnectionFailed, match="is not trusted"):
            thin.connect(network.uri(admin, ca=other.certificate))
        with pytest.raises(errors.ConnectionFailed, match=r"is not trusted.*IP address mismatch"):
            thin.connect(network.uri(admin, host="127.0.0.1"))

    async def main() -> None:
        async with network.serving():
            await asyncio.to_thread(use)

    asyncio.run(main())


def test_the_token_of_the_environment_is_used(
    tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(tmp_path, authority, authority.issue("server", hosts=HOSTS))
    monkeypatch.setenv("LIBNETVIRT_TOKEN", network.token("admin").read_text())

    async def main() -> None:
        async with network.serving():
            with await asyncio.to_thread(thin.connect, network.uri(None)) as client:
                found = await asyncio.to_thread(client.networks)
        assert json.dumps(found) == "[]"

    asyncio.run(main())
