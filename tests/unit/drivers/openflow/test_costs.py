"""What an operation and a set-up cost, in numbers that do not depend on the machine's mood.

A change that makes one of these grow has to say why.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from libnetvirt import Endpoint, VirtualNetwork
from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.switches import PortView, SwitchView
from libnetvirt.drivers.openflow.capabilities import PRESETS
from libnetvirt.drivers.openflow.runtime import Runtime
from libnetvirt.drivers.openflow.southbound.life import SwitchState
from libnetvirt.drivers.openflow.southbound.session import Session
from libnetvirt.store import Batch
from libnetvirt.store.sqlite import MEMORY, SqliteStore

HOSTS = 0x02_0000_000000


class Wire(asyncio.Transport):
    """Keeps what is written, one entry a write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ARG002
        return None

    def abort(self) -> None:
        pass

    close = abort


#: the stores of a test's stands
_OPEN: list[SqliteStore] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _OPEN:
        _OPEN.pop().close()


class Stand:
    """A shell with switches in a row, each over a transport in memory."""

    def __init__(self, preset: str, switches: int = 1, ports: int = 64) -> None:
        store = SqliteStore(MEMORY)
        _OPEN.append(store)
        self.runtime = Runtime(Options(PRESETS[preset], packet_rate=1e9), store, b"k" * 32, 5.0)
        self.core = self.runtime.core
        self.sessions: list[Session] = []
        self.wires: list[Wire] = []
        for dpid in range(1, switches + 1):
            self.core.state.switches[dpid] = SwitchView(
                dpid, True, True, {p: PortView(p, f"p{p}", True) for p in (*range(1, ports + 1), 101, 102)}
            )
            session, wire = Session(self.runtime, 5.0), Wire()
            session.connection_made(wire)
            session.dpid, session.state = dpid, SwitchState.READY
            # As after the handshake.
            session.data_received(of.Hello().encode())
            self.runtime.handshake = lambda *_: None  # type: ignore[method-assign]
            session.data_received(of.FeaturesReply(datapath_id=dpid, n_tables=254).encode())
            session.state = SwitchState.READY
            self.runtime._sessions[dpid] = session
            self.sessions.append(session)
            self.wires.append(wire)
        for dpid in range(1, switches):
            self.core.state.discovery.assume((dpid, 102), (dpid + 1, 101), 1e12)
            self.core.state.discovery.assume((dpid + 1, 101), (dpid, 102), 1e12)
        self.core.reroute.plan()

    async def turn(self) -> list[Counter[str]]:
        """End the turn of the loop; what each switch was sent by then, by kind of message."""
        await asyncio.sleep(0)
        found = []
        for wire in self.wires:
            frames = of.Framer().feed(b"".join(wire.writes))
            found.append(Counter(type(of.decode(f)).__name__ for f in frames))
        return found

    def quiet(self) -> None:
        """Forget what was sent so far."""
        for session, wire in zip(self.sessions, self.wires, strict=True):
            session._flush()
            wire.writes.clear()

    def ask(self, port: int, source: int, destination: int) -> bytes:
        """A packet-in of an on-demand network's frame."""
        frame = destination.to_bytes(6) + source.to_bytes(6) + b"\x08\x00" + bytes(46)
        index = next(iter(self.core.state.rulesdb.by_index))
        match = of.Match(in_port=port, metadata=pipeline.entered(index, None))
        cookie = pipeline.cookie(index, pipeline.Kind.FLOOD)
        head = of.PacketInHead(of.NO_BUFFER, len(frame), 0, pipeline.Table.HOST, cookie, match)
        return of.PacketIn(head, frame).encode()


def _network(size: int, switches: int) -> VirtualNetwork:
    return VirtualNetwork.model_validate(
        {
            "uuid": 7,
            "endpoints": [
                {"uuid": n + 1, "switch": n % switches + 1, "port": n // switches + 1} for n in range(size)
            ],
        }
    )


def test_a_network_costs_one_rule_per_endpoint_and_a_few_per_switch() -> None:
    async def story() -> None:
        stand = Stand("proactive", 10)
        work = stand.core.operations.begin(None, _network(200, 10))
        (only,) = work.plan.rounds
        assert len(only) == 10
        sent = [message for messages in only.values() for message in messages]
        per_kind = Counter(type(message).__name__ for message in sent)
        assert per_kind["GroupMod"] == 10 * 2 + 10 * 9
        assert per_kind["FlowMod"] <= 200 + 10 * (3 + 1 + 9)
        assert sum(len(message.encode()) for message in sent) < 60_000

    asyncio.run(story())


@pytest.mark.parametrize("size", [20, 2_000])
def test_one_more_endpoint_takes_one_rule_and_one_group(size: int) -> None:
    async def story() -> None:
        stand = Stand("proactive", 10, ports=300)
        before = _network(size, 10)
        stand.core.operations.begin(None, before).cleanup()
        after = before.changed(endpoints=(*before.endpoints, {"uuid": 99999, "switch": 3, "port": 299}))
        plan = stand.core.operations.begin(before, after).plan
        sent = [type(m).__name__ for one in plan.rounds for messages in one.values() for m in messages]
        assert sorted(sent) == ["FlowMod", "GroupMod"]
        assert plan.switches == {3}

    asyncio.run(story())


def test_a_set_up_takes_one_rule_per_switch_one_barrier_per_iteration_and_one_packet_out() -> None:
    async def story() -> None:
        stand = Stand("reactive", 5)
        stand.core.operations.begin(None, _network(10, 5))
        first, last = stand.sessions[0], stand.sessions[4]
        first.data_received(stand.ask(1, HOSTS + 1, HOSTS + 5))
        last.data_received(stand.ask(1, HOSTS + 5, (1 << 48) - 1))
        stand.quiet()
        for source in range(101, 111):
            first.data_received(stand.ask(1, HOSTS + source, HOSTS + 5))
        sent = await stand.turn()
        assert sent[0] == Counter()  # nothing at the first switch before the others have confirmed
        assert sent[1:] == [Counter(FlowMod=10, BarrierRequest=1)] * 4
        for session, wire in zip(stand.sessions[1:], stand.wires[1:], strict=True):
            barriers = [
                f for f in of.Framer().feed(b"".join(wire.writes)) if f[1] == of.MsgType.BARRIER_REQUEST
            ]
            stand_reply = of.BarrierReply()
            stand_reply.xid = int.from_bytes(barriers[0][4:8])
            wire.writes.clear()
            session.data_received(stand_reply.encode())
        sent = await stand.turn()
        assert sent[0] == Counter(FlowMod=10)
        assert sent[4] == Counter(PacketOut=10)

    asyncio.run(story())


def _calls(work: Callable[[], object]) -> int:
    """Calls of functions, Python's and built-in, that it takes."""
    count = 0

    def see(_frame: object, event: str, _what: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_a_set_up_takes_few_calls() -> None:
    async def story() -> None:
        stand = Stand("reactive")
        stand.core.operations.begin(None, _network(64, 1))
        session = stand.sessions[0]
        for port in range(1, 65):
            session.data_received(stand.ask(port, HOSTS + port, (1 << 48) - 1))
        pairs = [(a, b) for a in range(1, 65) for b in range(1, 65) if a != b]
        asked = [stand.ask(a, HOSTS + a, HOSTS + b) for a, b in pairs]
        # What is made ready once for each endpoint.
        session.data_received(b"".join(asked[:640]))
        stand.quiet()
        counted = 0
        for first in range(640, 1280, 32):
            chunk = b"".join(asked[first : first + 32])
            counted += _calls(lambda chunk=chunk: session.data_received(chunk))  # type: ignore[misc]
        assert len(list(stand.core.state.ondemand)) == 1280
        assert counted / 640 < 60

    asyncio.run(story())


def test_one_more_endpoint_takes_the_same_calls_in_a_small_and_in_a_large_network() -> None:
    def counted(size: int) -> int:
        stand = Stand("proactive", 10, ports=300)
        network, store = _network(size, 10), SqliteStore(MEMORY)
        extra = Endpoint(uuid=99999, switch=3, port=299)
        stand.core.operations.begin(None, network).cleanup()
        store.commit(Batch(put=[network]))

        def carry_out(before: VirtualNetwork, after: VirtualNetwork) -> VirtualNetwork:
            work = stand.core.operations.begin(before, after, before.touched(after))
            for messages in (m for one in work.plan.rounds for m in one.values()):
                for message in messages:
                    message.encode()
            work.cleanup()
            store.commit(Batch(alter=[(before, after)]))
            return after

        def there_and_back() -> None:
            nonlocal network
            network = carry_out(network, network.with_endpoint(extra))
            network = carry_out(network, network.without_endpoint("99999"))

        # The first time, what is remembered about a description is made.
        there_and_back()
        took = _calls(there_and_back)
        store.close()
        return took

    async def story() -> None:
        small, large = counted(100), counted(2_000)
        assert large < 1.2 * small

    asyncio.run(story())


def test_the_memory_of_a_set_up_is_bounded() -> None:
    async def story() -> None:
        stand = Stand("reactive")
        stand.core.operations.begin(None, _network(64, 1))
        session = stand.sessions[0]
        for port in range(1, 65):
            for host in range(16):
                stand.core.state.locator.learn("7", str(port), HOSTS + port * 16 + host)
        asked = [
            stand.ask(1 + n % 32, HOSTS + (1 + n % 32) * 16 + n // 32 % 16, HOSTS + 40 * 16 + n // 512)
            for n in range(4096)
        ]
        session.data_received(b"".join(asked[:1024]))
        stand.quiet()
        gc.collect()
        routes, blocks = len(list(stand.core.state.ondemand)), sys.getallocatedblocks()
        session.data_received(b"".join(asked[1024:]))
        stand.quiet()
        gc.collect()
        made = len(list(stand.core.state.ondemand)) - routes
        assert made > 1000
        # A route, its key with two numbers, its part of three dictionaries.
        assert (sys.getallocatedblocks() - blocks) / made < 12

    asyncio.run(story())


def test_messages_received_in_one_iteration_cause_few_writes() -> None:
    async def story() -> None:
        stand = Stand("reactive")
        stand.core.operations.begin(None, _network(4, 1))
        session, wire = stand.sessions[0], stand.wires[0]
        session.data_received(stand.ask(2, HOSTS + 2, (1 << 48) - 1))
        await asyncio.sleep(0)
        wire.writes.clear()
        session.data_received(b"".join(stand.ask(1, HOSTS + 100 + n, HOSTS + 2) for n in range(50)))
        assert (await stand.turn())[0] == Counter(FlowMod=50, PacketOut=50)
        # The first half while the second is being made: the switch begins sooner.
        assert len(wire.writes) == 2

    asyncio.run(story())
