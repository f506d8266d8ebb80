"""Two controllers on the same switches: the traffic of the first never stops, and the second says why."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt import Event, State, VirtualNetwork, formats
from libnetvirt.conformance.support import frames
from libnetvirt.conformance.support.stream import EventReader
from libnetvirt.errors import SwitchNotFound
from tests.support.lab import Lab
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.openflow_harness import of_a_network
from tests.support.promised_times import by
from tests.support.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

A, B = (1, 1), (2, 1)


def _network(name: str, uuid: int, vlan: int | None = None) -> VirtualNetwork:
    endpoints = [{"uuid": s, "switch": s, "port": p, "vlan": vlan} for s, p in (A, B)]
    return VirtualNetwork.model_validate({"name": name, "uuid": uuid, "endpoints": endpoints})


BLUE, GREEN = _network("blue", 7), _network("green", 8, 20)


class Server(Served):
    """A server, a client, and the events."""

    def __init__(self, options: str = "") -> None:
        super().__init__(options)
        self._readers: list[EventReader] = []

    def open(self) -> libnetvirt.Connection:
        self.start()
        self.connection = libnetvirt.open(self.client_uri)
        self._readers.append(EventReader(self.connection))
        return self.connection

    def netvirt(self, *words: str) -> str:
        command = [NETVIRT, *words, "-c", self.client_uri]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def links(self) -> int:
        return len(self.connection.substrate().links)

    def notes(self) -> str:
        return "\n".join(self.connection.substrate().notes)

    def refuses(self, count: int = 2) -> bool:
        return self.notes().count("is refused: ") == count

    def kinds(self, kind: str) -> list[Event]:
        return [event for reader in self._readers for event in list(reader.events) if event.kind == kind]

    def leave(self) -> None:
        self.connection.close()
        self.terminate()


class Pair:
    """Two switches, and the servers that they are told to connect to."""

    def __init__(self, lab: Lab, stack: ExitStack) -> None:
        self.lab, self._stack = lab, stack

    def server(self, options: str = "") -> Server:
        server = Server(options)
        self._stack.callback(server.stop)
        return server

    def control(self, *servers: Server) -> None:
        """As ``ovs-vsctl set-controller BR A B``."""
        words: list[str] = []
        for switch in self.lab.switches:
            targets = [server.target for server in servers]
            words += ["--", "set-controller", self.lab.bridge(switch), *targets]
        self.lab.ovs.vsctl(*words)
        self.lab.ovs.vsctl("--", *self._hurry())

    def use(self, server: Server) -> None:
        """Start a server as the only controller, and wait until the substrate is found."""
        server.open()
        self.control(server)
        eventually(lambda: server.links() == 2)

    def _hurry(self) -> list[str]:
        rows = self.lab.ovs.vsctl("--bare", "--columns=_uuid", "list", "Controller").split()
        return [w for row in rows for w in ("--", "set", "Controller", row, "max_backoff=1000")][1:]

    def delivers(
        self,
        source: tuple[int, int] = A,
        target: tuple[int, int] = B,
        vlan: int | None = None,
        seconds: float = 10.0,
    ) -> bool:
        """Whether a frame that is sent once comes out within some seconds."""
        frame = frames.marked(frames.mac(1), frames.BROADCAST, b"%d" % time.monotonic_ns())
        if vlan is not None:
            frame = frames.tagged(frame, frames.tag(vlan))
        self.lab.send(*source, frame)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (*target, frame) in self.lab.receive(0.05):
                return True
        return False

    def rules(self) -> list[set[str]]:
        """The rules of networks and the marker of each switch."""
        return [{line for line in self.lab.dump(s) if of_a_network(line)} for s in self.lab.switches]

    def networks(self) -> int:
        """How many networks any switch holds rules of."""
        cookies = (re.search(r"cookie=0x4e56([0-9a-f]{8})", line) for one in self.rules() for line in one)
        return len({found[1] for found in cookies if found and int(found[1], 16)})

    @contextmanager
    def streaming(self) -> Iterator[list[int]]:
        """A frame every 2 ms while the body runs. Yields a list that has the number sent and the number
        received when it is over."""
        over, counts = threading.Event(), [0, 0]
        sent: set[bytes] = set()

        def run() -> None:
            while not over.is_set():
                frame = frames.marked(frames.mac(1), frames.BROADCAST, b"stream %d" % len(sent))
                sent.add(frame)
                self.lab.send(*A, frame)
                counts[0] = len(sent)
                counts[1] += sum(a[:2] == B and a[2] in sent for a in self.lab.receive())
                time.sleep(0.002)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield counts
        finally:
            over.set()
            thread.join()
            deadline = time.monotonic() + 10
            while counts[1] < counts[0] and time.monotonic() < deadline:
                counts[1] += sum(a[:2] == B and a[2] in sent for a in self.lab.receive(0.05))
            counts[1] += sum(a[:2] == B and a[2] in sent for a in self.lab.receive_for(0.2))


@pytest.fixture
def pair(private_namespace: None) -> Iterator[Pair]:  # noqa: ARG001
    with ExitStack() as stack, Lab(2, [(1, 2)], 1) as lab:
        yield Pair(lab, stack)


def test_a_second_empty_server_takes_nothing_away_and_says_why(pair: Pair) -> None:
    first, second = pair.server(), pair.server()
    pair.use(first)
    first.connection.create(BLUE)
    assert eventually(lambda: pair.delivers(seconds=1.0))
    held = pair.rules()
    second.open()
    with pair.streaming() as counts:
        pair.control(first, second)
        eventually(second.refuses, seconds=by(0.066))
        eventually(lambda: first.links() == 2)
        time.sleep(2.0)  # long enough for a refusal that is repeated every second
        eventually(lambda: counts[0] > 500, "many frames are sent")
    assert counts[1] == counts[0] > 500
    assert pair.rules() == held
    assert first.connection.lookup("blue").state().state is State.ACTIVE
    assert not first.kinds("switch.taken")
    # It is told once for each switch, with both installations and both ways to decide.
    eventually(lambda: len(second.kinds("switch.refused")) >= 2)
    told = second.kinds("switch.refused")
    assert [event.switch for event in sorted(told, key=lambda e: e.switch or "")] == ["1", "2"]
    mine = {event.fields["installation"] for event in told}
    assert len(mine) == 1
    for text in (told[0].message, second.notes()):
        assert f"this is {mine.copy().pop()}" in text
        assert "netvirt switch adopt" in text
        assert "netvirt switch forget" in text
        assert str(second.state) in text, "it may be a path that was mistyped"
    # Nothing can be built on what is refused.
    with pytest.raises(SwitchNotFound, match="refused"):
        second.connection.create(GREEN)
    waiting = second.connection.create(GREEN, pending=True)
    assert waiting.state().state is State.DOWN
    assert pair.rules() == held

    # The operator decides: the switches are taken over, and the first says that it has lost them.
    assert "switch 1 is taken over" in second.netvirt("switch", "adopt", "--all")
    eventually(lambda: second.links() == 2)
    assert eventually(lambda: pair.delivers(vlan=20, seconds=1.0))
    assert not pair.delivers(seconds=1.0)
    eventually(lambda: len(first.kinds("switch.taken")) == 2, seconds=by(2.4))
    eventually(lambda: first.notes().count("belong to another controller") == 2)
    assert first.connection.lookup("blue").state().state is not State.ACTIVE
    assert "is refused" in first.connection.lookup("blue").state().endpoints[0].reason
    held = pair.rules()
    first.netvirt("switch", "forget", "2")
    assert "left to another controller" in first.notes()
    # Back again, and nothing of green is left.
    first.netvirt("switch", "adopt", "1")
    first.netvirt("switch", "adopt", "2")
    assert eventually(lambda: pair.delivers(seconds=1.0))
    assert not pair.delivers(vlan=20, seconds=1.0)
    first.leave()
    second.leave()


def _backed_up(pair: Pair) -> tuple[Server, Path]:
    """A server that has stopped, with both networks, and a backup from before the second."""
    first = pair.server()
    pair.use(first)
    first.connection.create(BLUE)
    backup = first.directory / "backup.db"
    first.netvirt("backup", str(backup))
    first.connection.create(GREEN)
    first.leave()
    return first, backup


def test_a_server_with_an_older_state_or_a_copy_changes_nothing(pair: Pair) -> None:
    first, backup = _backed_up(pair)
    held = pair.rules()

    # The disk is lost, and only the backup is there.
    older = pair.server()
    shutil.copy(backup, older.state)
    with pair.streaming() as counts:
        older.open()
        pair.control(older)
        eventually(older.refuses)
        assert "newer than the state of this controller" in older.notes()
        assert "missing in the state" in older.notes()
    assert counts[1] == counts[0] > 0
    assert pair.delivers(vlan=20)
    assert pair.rules() == held
    older.leave()

    # The state that made the rules goes on as if nothing had happened.
    with pair.streaming() as counts:
        pair.use(first)
    assert counts[1] == counts[0] > 0
    assert not first.kinds("switch.refused")
    first.leave()

    # A copy of the state that was used by itself.
    copy = pair.server()
    shutil.copy(first.state, copy.state)
    pair.use(copy)
    copy.leave()
    first.open()
    pair.control(first)
    eventually(first.refuses)
    assert "newer than the state of this controller" in first.notes()
    assert pair.delivers()
    first.netvirt("switch", "adopt", "--all")
    eventually(lambda: first.links() == 2)
    eventually(lambda: first.connection.lookup("green").state().state is State.ACTIVE)
    first.leave()


def test_a_restored_backup_is_a_decision_and_a_lost_state_is_recovered(pair: Pair) -> None:
    first, backup = _backed_up(pair)
    subprocess.run([NETVIRT, "-c", first.uri, "restore", str(backup)], check=True, capture_output=True)
    first.open()
    eventually(lambda: first.links() == 2)
    assert pair.delivers()
    eventually(lambda: not pair.delivers(vlan=20, seconds=1.0))
    eventually(lambda: pair.networks() == 1)  # on both switches
    assert not first.kinds("switch.refused")
    first.leave()

    # The state and all backups are lost: the networks are described from the rules.
    for path in first.state.parent.glob("state.db*"):
        path.unlink()
    first.open()
    eventually(first.refuses)
    networks = first.directory / "networks.yaml"
    networks.write_text(first.netvirt("recover", "--from-switches"))
    [found] = formats.read_file(networks)
    assert [(e.switch, e.port, e.vlan) for e in found.endpoints] == [("1", "1", None), ("2", "1", None)]
    first.netvirt("apply", "--pending", str(networks))
    assert pair.delivers()
    first.netvirt("switch", "adopt", "--all")
    eventually(lambda: first.links() == 2)
    assert eventually(lambda: pair.delivers(seconds=1.0))
    eventually(lambda: first.connection.lookup("recovered-1").state().state is State.ACTIVE)
    first.leave()


def test_a_controller_whose_state_is_in_memory_releases_its_switches(pair: Pair) -> None:
    port = pair.server().port
    uri = f"openflow:///?listen=127.0.0.1:{port}&state=:memory:"
    pair.lab.control(f"tcp:127.0.0.1:{port}")
    for network in (BLUE, GREEN):
        with libnetvirt.open(uri) as connection:
            eventually(lambda: len(connection.substrate().links) == 2)
            connection.create(network)
            assert "refused" not in str(connection.substrate().notes)
    assert pair.delivers(vlan=20)
    assert not pair.delivers(seconds=1.0)
