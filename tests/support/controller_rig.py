"""A controller with switches in memory, driven as the runtime drives it, and the oracle beside it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane.entries import removes
from libnetvirt.controller.dataplane.pipeline import Table
from libnetvirt.controller.engine.controller import Controller, Options, Transaction
from libnetvirt.controller.engine.effects import PendingEffects
from libnetvirt.controller.engine.state import ControllerState
from libnetvirt.controller.intent.facts import Facts, RowKey, rows
from libnetvirt.controller.intent.labels import LabelSpace
from libnetvirt.controller.intent.switches import PortView, SwitchView
from libnetvirt.controller.packetin.dispatcher import PacketInDispatcher
from libnetvirt.controller.topology.discovery import Discovery
from libnetvirt.model import Encapsulation, Endpoint, Insertion, Rules, Timeout, VirtualNetwork
from libnetvirt.model.quantity import Duration
from libnetvirt.semantics import LearnedState, forward
from libnetvirt.semantics.forward import egress_frame
from tests.support.switch_fabric import Fabric, Out, Refused, Switch

SECRET = b"s" * 32
VLAN = Rules(encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT)
NATIVE = Rules(
    encapsulation=Encapsulation.NATIVE,
    insertion=Insertion.ON_DEMAND,
    timeout=Timeout.IDLE,
    duration=Duration.parse("60 s"),
)
BROADCAST = 0xFFFF_FFFF_FFFF


def mac(number: int) -> int:
    """The address of host ``number``."""
    return 0x02 << 40 | number


def frame(destination: int, source: int, text: bytes = b"", vlan: int | None = None) -> bytes:
    """A frame with an experimental type."""
    tag = b"" if vlan is None else b"\x81\x00" + vlan.to_bytes(2)
    return destination.to_bytes(6) + source.to_bytes(6) + tag + b"\x88\xb5" + text.ljust(46, b".")


def tagged(end: Endpoint, sent: bytes) -> bytes:
    """A frame without tag as the endpoint's host sends it."""
    return egress_frame(end, sent)[2]


def endpoint(uuid: int | str, switch: int, port: int | str, vlan: int | None = None, *hosts: int) -> Endpoint:
    """An endpoint; ``hosts``: numbers of declared hosts."""
    macs = tuple(":".join(f"{b:02x}" for b in mac(h).to_bytes(6)) for h in hosts)
    return Endpoint(uuid=str(uuid), switch=str(switch), port=str(port), vlan=vlan, mac=macs)


def network(uuid: int | str, *endpoints: Endpoint, rules: Rules | None = None) -> VirtualNetwork:
    """A network."""
    return VirtualNetwork(uuid=str(uuid), name=f"n{uuid}", endpoints=endpoints, rules=rules)


Probe = tuple[tuple[int, int, bytes], Callable[[Out], bool]]


def facts_of(core: Controller) -> Facts:
    """What a controller has noted in its journal, links included, as it comes back from a store."""
    core.journal_links()
    return as_stored(rows(core.state.journal.changes))


def as_stored(written: Mapping[RowKey, str | None]) -> Facts:
    """What comes back from a store to which these rows were written."""
    return Facts.from_rows({key: value for key, value in written.items() if value is not None})


class Rig:
    """Everything but asyncio. With ``chance``, rounds reach the switches in a random order, and what the
    controller sends by itself waits until :meth:`pump`."""

    #: the description that switches report
    description = "Nicira, Inc. Open vSwitch 3.1.0"
    tables = 254

    def __init__(self, options: Options | None = None, chance: Random | None = None) -> None:
        self.chance = chance
        self.fabric = Fabric()
        self.now = 1000.0
        #: seconds that discovery frames and probes take over a link, by its sending end
        self.delays: dict[tuple[int, int], float] = {}
        self.events: list[tuple[str, str]] = []
        self._start(options or Options(VLAN))
        self.known = LearnedState(limit=self.state.options.host_limit)
        #: whether old paths and places outlast operations, until `linger_over`
        self.lingers = False
        self.stored: dict[RowKey, str] = {}
        self.committed: list[VirtualNetwork] = []
        #: whether stored facts are kept for the next controller
        self.stores = False
        self.queues: dict[int, deque[of.Message | Callable[[bool], None]]] = {}
        #: switches whose connection carries nothing; one that has to confirm rules is disconnected
        self.silent: set[int] = set()
        self.out: list[Out] = []
        self.errors: list[str] = []
        #: called after each message or round that reached a switch
        self.between: Callable[[], None] = lambda: None

    def _start(self, options: Options) -> None:
        self.core = Controller(options, SECRET, self, self._publish)
        self.dispatcher = PacketInDispatcher(self.core)
        # Tests may replace `send`.
        self.pending = PendingEffects(
            lambda dpid, message: self.send(dpid, message), self._publish, self.dispatcher.port_down
        )

    @property
    def state(self) -> ControllerState:
        """What the controller knows."""
        return self.core.state

    def _publish(self, kind: str, message: str, **fields: str) -> None:
        assert all(isinstance(v, str) for v in fields.values())
        self.events.append((kind, message))

    def kinds(self) -> list[str]:
        """The kinds of the events so far."""
        return [kind for kind, _ in self.events]

    # ---- the substrate -------------------------------------------------------------------------

    def switch(self, dpid: int, ports: int = 4) -> Switch:
        """A switch connects with these ports."""
        switch = self.fabric.switches[dpid] = Switch(dpid)
        self.connect(dpid, ports)
        return switch

    def view(self, dpid: int, ports: int) -> SwitchView:
        """The switch as it describes itself."""
        view = SwitchView(dpid, connected=True, known=True, address="test", bundles=True, meters=True)
        view.description, view.tables = self.description, self.tables
        down = self.fabric.switches[dpid].down
        for number in range(1, ports + 1):
            view.ports[number] = PortView(number, f"s{dpid}-eth{number}", number not in down)
        return view

    def connect(self, dpid: int, ports: int) -> None:
        """The switch connects and is reconciled."""
        view = self.view(dpid, ports)
        self.pending.add(self.core.topology.switch_up(view, self.now))
        self._reconcile(dpid)
        self.pending.add(self.core.topology.lldp(dpid, view.ports, self.now))
        self.settle()

    def disconnect(self, dpid: int) -> None:
        """The control connection is lost."""
        queue = self.queues.pop(dpid, deque())
        self.pending.add(self.core.topology.switch_down(dpid, self.now))
        for item in queue:
            if callable(item):
                item(False)

    def restart(self, ports: Mapping[int, int]) -> None:
        """The controller is killed, and another one starts with what was stored. The switches go on as they
        are, and connect one after the other, with these ports."""
        self.queues.clear()
        self.fabric.up.clear()
        self._start(self.state.options)
        self.core.load(self.committed, Facts.from_rows(self.stored), self.now)
        for dpid, count in ports.items():
            self.connect(dpid, count)

    def commit(self) -> None:
        """Store the networks and the facts."""
        if not self.stores:
            return
        self.committed = self.networks
        self._store_facts()

    def _store_facts(self) -> None:
        if not self.stores:
            return
        self.core.journal_links()
        written = self.stored | rows(self.core.state.journal.take())
        self.stored = {key: value for key, value in written.items() if value is not None}

    def link(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Link two ports and let Discovery find the link."""
        self.fabric.link(one, other)
        for dpid, port in (one, other):
            self.pending.add(self.core.topology.lldp(dpid, [port], self.now))
        self.settle()

    def port(self, dpid: int, port: int, up: bool) -> None:
        """A port goes up or down."""
        down = self.fabric.switches[dpid].down
        (down.discard if up else down.add)(port)
        state = 0 if up else of.PortState.LINK_DOWN
        desc = of.PortDesc(port, name=f"s{dpid}-eth{port}", state=state)
        self.pending.add(
            self.core.topology.port_status(dpid, of.PortStatus(of.PortStatusReason.MODIFY, desc), self.now)
        )

    def cut(self, one: tuple[int, int], up: bool = False) -> None:
        """A link goes down, or up."""
        for dpid, port in (one, self.fabric.links[one]):
            self.port(dpid, port, up)
        self.settle()

    def tick(self, seconds: float = 2.0) -> None:
        """Advance the clock."""
        self.now += seconds
        for effects in self.core.tick(self.now):
            self.pending.add(effects)
        self.dispatcher.tick(self.now)
        self.dispatcher.poll(self.now)
        self.pending.add(self.core.links.poll(self.now))
        self.settle()
        # Several times a second: trials that have begun in this tick end in it.
        self.pending.add(self.core.caches.poll(self.now))
        self.settle()

    def _connected(self, dpid: int) -> bool:
        view = self.state.switches.get(dpid)
        return view is not None and view.connected

    # ---- the wire ------------------------------------------------------------------------------

    def post(self, dpid: int, *parts: bytes) -> None:
        for message in of.Framer().feed(b"".join(parts)):
            self.send(dpid, of.decode(message))

    def track(self, dpid: int, done: Callable[[bool], None], header: bytes, *parts: bytes) -> None:
        self.post(dpid, header, *parts)
        self.confirm(dpid, done)

    def send(self, dpid: int, message: of.Message) -> None:
        if self._connected(dpid):
            self.queues.setdefault(dpid, deque()).append(message)
        if self.chance is None:
            self.pump()

    def confirm(self, dpid: int, done: Callable[[bool], None]) -> None:
        if self._connected(dpid):
            self.queues.setdefault(dpid, deque()).append(done)
        else:
            self.queues.setdefault(0, deque()).append(lambda _: done(False))

    def linger(self, action: Callable[[], None]) -> None:
        self.queues.setdefault(0, deque()).append(lambda _: action())

    def pump(self, count: int = 1 << 30) -> None:
        """Let ``count`` messages reach their switches, which are chosen at random."""
        while count and (waiting := sorted(d for d, q in self.queues.items() if q and d not in self.silent)):
            count -= 1
            dpid = self.chance.choice(waiting) if self.chance else waiting[0]
            item = self.queues[dpid].popleft()
            if callable(item):
                item(True)
            elif isinstance(item, of.EchoRequest):
                self.core.topology.echoed(dpid, item.body, self.now)
            elif isinstance(item, of.PacketOut):
                self.out += self.fabric.packet_out(dpid, item)
            else:
                self._take(dpid, item)
            self.between()

    def _take(self, dpid: int, message: of.Message) -> None:
        try:
            self.fabric.switches[dpid].take(message)
        except Refused as error:
            self.errors.append(str(error))

    def hear(self) -> None:
        """The controller handles what the switches have sent."""
        up, self.fabric.up = self.fabric.up, []
        for dpid, message in up:
            if dpid in self.silent:
                continue
            if self._connected(dpid):
                sender = self.fabric.links.get((dpid, message.head.in_port), (0, 0))
                late = self.delays.get(sender, 0.0) if message.head.table_id == Table.CLASSIFY else 0.0
                effects = self.dispatcher.packet_in(dpid, message, self.now + late)
                if effects is not None:
                    self.pending.add(effects)
        while self.dispatcher.serve_queued(self.now):
            pass
        for dpid, switch in self.fabric.switches.items():
            gone, switch.removed = switch.removed, []
            if self._connected(dpid) and dpid not in self.silent:
                for one in gone:
                    self.dispatcher.flow_removed(dpid, one)

    def settle(self) -> None:
        """Deliver all messages, until none is under way."""
        for _ in range(200):
            self.pump()
            self.hear()
            if self.pending:
                self.follow()
            elif self._due() and not self.lingers:
                self.linger_over()
            elif not any(q for d, q in self.queues.items() if d not in self.silent) and not self.fabric.up:
                return
        raise AssertionError("it never comes to rest")

    def follow(self) -> None:
        """React to a changed substrate as the runtime does."""
        while self.pending:
            while self.pending.rebind:
                self.execute(self.core.reconciler.rebind(self.pending.rebind.pop()))
            while self.pending.compare:
                self._reconcile(self.pending.compare.pop())
            while (work := self.core.reroute.plan(self.pending.take_reroute())) is not None:
                self._store_facts()
                self.execute(work)
                if not work.stopped:
                    self.core.deferred.add(work)
                    break
            self.pending.add(self.core.links.ready(self.now))

    def _reconcile(self, dpid: int) -> None:
        self.execute(self.core.reconciler.reconcile(dpid, self.fabric.switches[dpid].dump()))
        if self._connected(dpid):
            self.pending.add(self.core.reroute.confirmed(dpid))

    def linger_over(self) -> None:
        """Let the time pass for which old paths linger."""
        for work in self._due():
            self.execute(Transaction(self.core.deferred.due(work), frozenset()))
            self.pending.add(work.cleanup())

    def _due(self) -> list[Transaction]:
        deferred = self.core.deferred
        return [work for work in deferred.transactions if not deferred.is_awaited(work)]

    # ---- operations ----------------------------------------------------------------------------

    def execute(self, work: Transaction) -> None:
        """Carry out a plan round by round; within a round, switch by switch."""
        if work.unconfirmed is None:
            self.pending.add(work.effects)
        self.dispatcher.busy = work.networks
        overtaken = self.core.deferred.overtaken().rounds
        for number, one in enumerate((*overtaken, *work.plan.rounds), -len(overtaken)):
            switches = sorted(one)
            if self.chance:
                self.chance.shuffle(switches)
            for dpid in switches:
                if not self._connected(dpid):
                    continue
                if dpid in self.silent:
                    self.disconnect(dpid)
                    if work.unconfirmed is None and not all(map(removes, one[dpid])):
                        self.pending.add(self.core.reroute.doubt(dpid))
                    continue
                for message in one[dpid]:
                    self.fabric.switches[dpid].take(message)
                self.between()
            missing = {dpid for dpid in one if dpid in work.relies_on and not self._connected(dpid)}
            if missing and number >= 0 and work.unconfirmed is not None:
                self.pending.add(work.unconfirmed(number, missing))
                if work.stopped:
                    break
        if work.unconfirmed is not None and not work.stopped:
            self.pending.add(work.effects)
        self.dispatcher.resume(self.now)

    def change(self, before: VirtualNetwork | None, after: VirtualNetwork | None) -> Transaction:
        """Carry out one operation."""
        work = self.core.operations.begin(before, after)
        self.execute(work)
        self.known = self.known.after_change(before, after)
        self.commit()
        self.execute(Transaction(self.core.deferred.unneeded(), frozenset()))
        if work.deferred.remove:
            self.core.deferred.add(work)
        else:
            self.pending.add(work.cleanup())
        self.settle()
        return work

    def undo(self, work: Transaction) -> None:
        """Undo an operation in the controller's state."""
        self.pending.add(work.undo())

    @property
    def space(self) -> LabelSpace:
        """The labels of vlan tunnels."""
        return self.state.labels.spaces[Encapsulation.VLAN]

    @property
    def networks(self) -> list[VirtualNetwork]:
        """All networks."""
        return [entry.description for entry in self.state.rulesdb]

    # ---- frames --------------------------------------------------------------------------------

    def inject(self, dpid: int, port: int, sent: bytes) -> list[Out]:
        """Inject a frame. All frames that leave until no message is under way, sorted."""
        self.out = []
        out = self.fabric.inject(dpid, port, sent)
        self.settle()
        out += self.out
        self.out = []
        return sorted(out)

    def expected(self, dpid: int, port: int, sent: bytes) -> list[Out]:
        """What the oracle predicts; it learns from the frame."""
        outcome = forward(self.networks, self.known, str(dpid), str(port), sent)
        self.known = outcome.learned
        return sorted((int(s), int(p), f) for s, p, f in outcome.outputs)

    def check(self, dpid: int, port: int, sent: bytes) -> list[Out]:
        """Inject a frame and check that the output is what the oracle predicts."""
        want = self.expected(dpid, port, sent)
        got = self.inject(dpid, port, sent)
        assert got == want, f"{sent[:20].hex()} at {dpid}/{port}: got {got}, wanted {want}"
        return got

    def holds_what_it_should(self) -> None:
        """Each switch holds exactly what Installed says (and reactive rules, which it does not keep), once
        nothing lingers."""
        self.lingers = False
        self.settle()
        for dpid, switch in self.fabric.switches.items():
            want = {k: p.entry for k, p in self.state.installed.on(dpid).items()}
            found = {e.key: e for e in switch.dump().entries()}
            assert found == want, dpid


def line(rig: Rig, count: int, ports: int = 4) -> None:
    """Switches 1 … count in a line: port 1 to the left, port 2 to the right, others for hosts."""
    for dpid in range(1, count + 1):
        rig.switch(dpid, ports)
    for dpid in range(1, count):
        rig.link((dpid, 2), (dpid + 1, 1))


def ring(rig: Rig, count: int, ports: int = 4) -> None:
    """A line whose ends are linked."""
    line(rig, count, ports)
    rig.link((count, 2), (1, 1))


def places(sent: Iterable[Out]) -> list[tuple[int, int]]:
    """Where frames came out."""
    return [(dpid, port) for dpid, port, _ in sent]


def edges(*pairs: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """Links in both directions, as (switch, port, switch, port)."""
    return [p for a, b, c, d in pairs for p in ((a, b, c, d), (c, d, a, b))]


def counted(work: Transaction) -> Mapping[int, int]:
    """The messages of a plan, by round."""
    return {i: sum(map(len, one.values())) for i, one in enumerate(work.plan.rounds)}


def discovery() -> Discovery:
    """One with an interval of 2 s."""
    return Discovery(SECRET, 2.0)
