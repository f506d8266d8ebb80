"""The fleet: the connections of all switches, the links between them, and the trials."""

# Silence of the controller has no event to wait for, so some loops poll.
# ruff: noqa: ASYNC110

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from benchmarks.fleet.graphs import FIRST_LINK_PORT, Graph, LinkEnd, named
from benchmarks.fleet.switch import Switch
from benchmarks.fleet.tables import tunnel_end
from benchmarks.fleet.traffic import Host, Load, Traffic, frame, introductions, pairs, partners, percentile
from benchmarks.fleet.wire import FRAME_LENGTH

#: Seconds without a completed set-up after which the outstanding ones count as lost.
STALLED = 3.0
#: Seconds in which a controller has to react to a link that was cut.
REROUTE_TIMEOUT = 10.0
#: Seconds in which a controller has to become silent.
SETTLE_TIMEOUT = 60.0
#: Unsent bytes of a connection above which a switch drops further packet-ins: about 100 frames.
BACKLOG = 12_000
#: Seconds of a flood before the first set-up of the victim.
FLOOD_LEAD = 0.5
_ABREAST = 50  # connections opened at a time


class Link(asyncio.Protocol):
    """The connection of one switch."""

    def __init__(self, fleet: Fleet, switch: Switch) -> None:
        self._fleet = fleet
        self._switch = switch
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._fleet.transports[self._switch.dpid] = cast(asyncio.Transport, transport)
        self._switch.connected()
        self._fleet.flush()

    def data_received(self, data: bytes) -> None:
        self._switch.receive(data)
        self._fleet.flush()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._fleet.transports.pop(self._switch.dpid, None)
        if not self.lost.done():
            self.lost.set_result(None)


class Fleet:
    """Switches linked into a graph. They keep their rules when disconnected."""

    def __init__(self, graph: Graph, on: list[int], hosts: int, behind: int = 1) -> None:
        self.graph = graph
        self._peers = graph.peers
        self._dirty: list[Switch] = []
        self.transports: dict[int, asyncio.Transport] = {}
        self._links: list[Link] = []
        self.barriers = 0
        self.flooded = self.flood_dropped = 0
        self.last_asked = self.last_barrier = 0.0
        self._down: set[LinkEnd] = set()
        self.switches = {}
        for dpid in range(1, graph.switches + 1):
            ports = list(range(1, hosts + 1)) if dpid in on else []
            self.switches[dpid] = Switch(dpid, ports + graph.link_ports(dpid), self)
        self.endpoints = sorted((dpid, port) for port in range(1, hosts + 1) for dpid in on)
        self.hosts = [
            Host(endpoint * behind + n, dpid, port, endpoint)
            for endpoint, (dpid, port) in enumerate(self.endpoints)
            for n in range(behind)
        ]
        self._pairs: dict[tuple[int, int], Iterator[tuple[int, int]]] = {}
        self.traffic = Traffic(self.hosts, self.switches)
        self.came_out = self.traffic.came_out

    # ---- callbacks of the switches ----------------------------------------------------------------

    def writable(self, switch: Switch) -> None:
        self._dirty.append(switch)

    def asked(self) -> None:
        self.last_asked = time.perf_counter()

    def barrier(self) -> None:
        self.barriers += 1
        self.last_asked = self.last_barrier = time.perf_counter()

    def sent(self, switch: Switch, port: int, data: bytes) -> None:
        if port < FIRST_LINK_PORT:
            if len(data) == FRAME_LENGTH:
                self.came_out(switch.dpid << 32 | port, int.from_bytes(data[-4:]))
            return
        peer = self._peers.get((switch.dpid, port))
        if peer is not None and switch.ports[port]:
            self.switches[peer[0]].arrived(peer[1], data)

    def entered(self, label: bytes, frame: bytes) -> None:
        key = tunnel_end(label)
        for switch in self.switches.values():
            if switch.tables.goes_on(key):
                switch.probed(next((p for p in switch.ports if p >= FIRST_LINK_PORT), 1), frame)

    def flush(self) -> None:
        """Write the queued messages of all switches."""
        while self._dirty:
            dirty, self._dirty = self._dirty, []
            for switch in dirty:
                out, switch.out = switch.out, []
                transport = self.transports.get(switch.dpid)
                if transport is not None and out:
                    transport.write(b"".join(out))

    # ---- commands ----------------------------------------------------------------------------

    async def connect(self, host: str, port: int, timeout: float = 20.0) -> None:
        """Connect all switches; returns when each was sent a features request. Raises OSError."""
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + timeout
        self._links = []

        async def one(switch: Switch) -> None:
            while True:
                try:
                    _, link = await loop.create_connection(lambda: Link(self, switch), host, port)
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.05)
                else:
                    self._links.append(link)
                    return

        every = list(self.switches.values())
        for first in range(0, len(every), _ABREAST):
            await asyncio.gather(*(one(switch) for switch in every[first : first + _ABREAST]))
        while not all(switch.greeted for switch in every) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        silent = sum(1 for switch in every if not switch.greeted)
        if silent:
            raise TimeoutError(f"the controller does not greet {silent} of {len(every)} switches")
        await asyncio.sleep(0.05)  # time for the controller to read the last reply

    async def disconnect(self) -> None:
        """Close all connections. The switches keep their rules."""
        for transport in list(self.transports.values()):
            transport.abort()
        await asyncio.gather(*(link.lost for link in self._links))

    def possible(self, networks: int, reach: int) -> int:
        """How many pairs there are, those included that trials have used."""
        return sum(len(others) for _, others in partners(self.hosts, networks, reach))

    async def introduce(self, networks: int, reach: int) -> int:
        """Have the controller learn all hosts; returns how many it did not."""
        for switch in self.switches.values():
            switch.interpret()
        everybody, single = introductions(self.hosts, networks, reach)
        missing = 0
        for broadcast, work in ((True, everybody), (False, single)):
            for window in (4 if broadcast else 32, 8, 1):
                self.traffic.begin(work, len(work), broadcast)
                await self._run(Load(len(work), 120.0, window))
                # If any host was not learned, repeat all of them.
                missing = self.traffic.outstanding
                if not missing:
                    break
        await self._delivered()
        return missing

    async def _delivered(self) -> None:
        """Wait until no frame has come out for a moment, such as the copies of flooded ones."""
        end = time.perf_counter() + SETTLE_TIMEOUT
        seen = -1
        while seen != self.traffic.out and time.perf_counter() < end:
            seen = self.traffic.out
            await asyncio.sleep(0.3)

    def new_pairs(self, networks: int, reach: int) -> Iterator[tuple[int, int]]:
        """The pairs that no earlier trial of this fleet has used."""
        key = networks, reach
        if key not in self._pairs:
            self._pairs[key] = pairs(self.hosts, networks, reach)
        return self._pairs[key]

    def put_back(self, networks: int, reach: int) -> None:
        """Keep the pairs that a trial did not use for the next one."""
        key = networks, reach
        self._pairs[key] = itertools.chain(self.traffic.unused, self._pairs[key])

    async def trial(self, load: Load, networks: int, reach: int, again: bool = False) -> dict[str, Any]:
        """Run set-ups of new pairs and return the results. ``again``: begin with the first pair again."""
        if again:
            self._pairs.pop((networks, reach), None)
        with self._counting():
            self.traffic.begin(self.new_pairs(networks, reach), load.count)
            lost = await self._run(load)
            await asyncio.sleep(0.1)
        self.put_back(networks, reach)
        traffic = self.traffic
        ordered = sorted(traffic.latencies)
        done, took = len(ordered), traffic.last - traffic.first
        flow_mods = sum(s.flow_mods for s in self.switches.values())
        return {
            "completed": done, "asked": done + traffic.outstanding, "seconds": took,
            "used_up": traffic.used_up,
            "rate": done / took if took else 0.0, "lost": lost, "strays": traffic.strays,
            "twice": traffic.twice, "flow_mods": flow_mods,
            "sound": flow_mods >= done * (reach + 1) and not traffic.strays and not traffic.twice,
            "p50": percentile(ordered, 0.5), "p90": percentile(ordered, 0.9),
            "p99": percentile(ordered, 0.99),
        }  # fmt: skip

    @contextmanager
    def _counting(self) -> Iterator[None]:
        """Let the switches count flow-mods instead of applying them, and exempt this process from garbage
        collection, so that it costs little itself."""
        for switch in self.switches.values():
            switch.interpret()
            switch.keeping = False
            switch.flow_mods = 0
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.enable()
            for switch in self.switches.values():
                switch.keeping = True

    async def _run(self, load: Load) -> int:
        """Run the set-ups that `Traffic.begin` has prepared. Returns how many were lost."""
        traffic = self.traffic
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def finished() -> None:
            if not over.done():
                over.set_result(None)

        traffic.finished = finished
        now = traffic.first = traffic.last = time.perf_counter()
        for _ in range(load.window):
            if not traffic.ask(now):
                break
        if not traffic.outstanding:
            return 0
        self.flush()
        end, seen, lost = now + load.seconds, 0, 0
        while not over.done() and time.perf_counter() < end:
            await asyncio.wait([over], timeout=min(STALLED, max(0.01, end - time.perf_counter())))
            if over.done() or len(traffic.latencies) != seen:
                seen = len(traffic.latencies)
                continue
            if time.perf_counter() - traffic.last >= STALLED:
                break  # the outstanding set-ups are lost
        traffic.end()
        if traffic.outstanding:
            seen = len(traffic.latencies)
            await asyncio.wait([over], timeout=STALLED)
            lost = traffic.outstanding
        traffic.finished = lambda: None
        return lost

    async def cut(self, a: int, b: int, quiet: float) -> dict[str, Any]:
        """Take a link down; returns after the last barrier of the controller's reaction.

        Raises TimeoutError if there was none.
        """
        ends = self.graph.link(a, b)
        self.barriers, before = 0, self._totals()
        began = self.last_barrier = time.perf_counter()
        for dpid, port in ends:
            self.switches[dpid].set_port(port, False)
        self.flush()
        while not self.barriers and time.perf_counter() - began < REROUTE_TIMEOUT:
            await asyncio.sleep(0.01)
        if not self.barriers:
            raise TimeoutError("the controller sent no barrier after the link was cut")
        while time.perf_counter() - self.last_barrier < quiet:
            await asyncio.sleep(quiet / 4)
        after = self._totals()
        return {
            "seconds": self.last_barrier - began, "barriers": self.barriers,
            **{name: after[name] - before.get(name, 0) for name in after},
        }  # fmt: skip

    def restore(self, a: int, b: int) -> None:
        """Undo `cut`."""
        for dpid, port in self.graph.link(a, b):
            self.switches[dpid].set_port(port, True)
        self.flush()

    async def settled(self, quiet: float) -> float:
        """Wait until the controller was silent for ``quiet`` seconds; returns the time of its last request.

        The clock is `time.perf_counter`, which processes share. Raises TimeoutError if it is never silent, as
        one that audits its switches regularly.
        """
        end = time.perf_counter() + SETTLE_TIMEOUT
        while time.perf_counter() - self.last_asked < quiet or len(self.transports) < len(self.switches):
            if time.perf_counter() > end:
                raise TimeoutError(f"the controller was never silent for {quiet:g} s")
            await asyncio.sleep(quiet / 10)
        return self.last_asked

    async def flood(self, rate: float, sources: list[int], seconds: float) -> int:
        """Have hosts at these endpoints send frames to unknown addresses. Returns the number sent."""
        chance = random.Random(1)
        first = {host.endpoint: host for host in reversed(self.hosts)}
        senders = [first[n] for n in sources]
        nowhere = 0xFFFFFFFF
        ready = []
        self.flooded = self.flood_dropped = 0
        for turn in range(4096):
            host = senders[turn % len(senders)]
            target = b"\x06" + chance.randbytes(5)
            head = self.switches[host.dpid].head(host.port)
            ready.append((self.switches[host.dpid], head + frame(target, host, host, nowhere)))
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) - began < seconds:
            due = min(int((now - began) * rate) - sent, 1000)
            for _ in range(due):
                switch, message = ready[sent & 4095]
                sent += 1
                # Like Open vSwitch, a switch drops packet-ins that its connection cannot take.
                if self._backlog(switch) < BACKLOG:
                    switch.say(message)
                else:
                    self.flood_dropped += 1
            self.flooded = sent
            self.flush()
            await asyncio.sleep(0.001)
        return sent

    def _backlog(self, switch: Switch) -> int:
        transport = self.transports.get(switch.dpid)
        return transport.get_write_buffer_size() if transport is not None else BACKLOG

    async def under_flood(self, load: Load, rate: float, sources: list[int], networks: int,
                          victim: int) -> dict[str, Any]:  # fmt: skip
        """A trial of one network's hosts, during a flood if the rate is not 0."""
        every, hosts = self.new_pairs(networks, 0), self.hosts
        with self._counting():
            self.traffic.begin((p for p in every if hosts[p[0]].endpoint % networks == victim), load.count)
            seconds = load.seconds + FLOOD_LEAD + STALLED if rate else 0.0
            flood = asyncio.ensure_future(self.flood(rate, sources, seconds))
            await asyncio.sleep(FLOOD_LEAD if rate else 0.0)
            before, began = self.flooded, time.perf_counter()
            lost = await self._run(load)
            sent = (self.flooded - before) / (time.perf_counter() - began)
            flood.cancel()
            await asyncio.wait([flood])
        self.put_back(networks, 0)
        ordered = sorted(self.traffic.latencies)
        return {
            "completed": len(ordered), "lost": lost, "p50": percentile(ordered, 0.5),
            "p90": percentile(ordered, 0.9), "p99": percentile(ordered, 0.99),
            "worst": ordered[-1] if ordered else 0.0,
            "mean": sum(ordered) / len(ordered) if ordered else 0.0,
            "flood": sent, "flood_dropped": self.flood_dropped, "used_up": self.traffic.used_up,
        }  # fmt: skip

    def _totals(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for switch in self.switches.values():
            for name, count in switch.received.items():
                found[name] = found.get(name, 0) + count
        return found

    def counts(self) -> dict[str, int]:
        """Counts of the rules that the switches hold and of the messages they received."""
        every = list(self.switches.values())
        return {
            "connected": len(self.transports),
            "flows": sum(len(s.tables.flows) for s in every),
            "groups": sum(len(s.tables.groups) for s in every),
            "meters": sum(len(s.tables.meters) for s in every),
            **self._totals(),
        }


def build(kind: str, switches: int, hosts: int, on: list[int] | None = None, behind: int = 1) -> Fleet:
    """Build a fleet by the name of its graph. ``on``: the switches with hosts (default: the edge);
    ``hosts``: their ports with hosts; ``behind``: the hosts behind each of these ports."""
    graph = named(kind, switches)
    return Fleet(graph, on or list(graph.edge), hosts, behind)
