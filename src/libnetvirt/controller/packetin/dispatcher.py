"""Packet-in dispatch: what happens to the frames and expired rules that switches report. Hot path.

A frame that entered at an endpoint is sent up if its source is not known (table *source*: its head only, the
switch forwards the frame itself), if its on-demand network has no rule for it (table *host*), or if its
routed network needs the slow path. The metadata names network and tag, so that one dictionary look-up gives
the endpoint.

Each endpoint, and each network, has a token bucket. What exceeds it is dropped here; for learning, the switch
is also told to stop sending such frames for a while. Networks are served in turn (see `fair_queue`). While an
operation changes a network, its frames are deferred until the operation is over.
"""

from __future__ import annotations

from typing import Final

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import add_message
from libnetvirt.controller.dataplane.pipeline import Kind, Table
from libnetvirt.controller.engine.controller import Controller
from libnetvirt.controller.engine.effects import REROUTE, Effects
from libnetvirt.controller.engine.link_checks import shared_text
from libnetvirt.controller.intent.flaps import Flaps
from libnetvirt.controller.intent.locator import Host, LearnResult, mac_text
from libnetvirt.controller.intent.rulesdb import Attachment, NetworkRecord
from libnetvirt.controller.intent.switches import switch_text
from libnetvirt.controller.intent.token_bucket import TokenBucket
from libnetvirt.controller.ondemand.flow_templates import FRAME_LIMIT
from libnetvirt.controller.packetin.deferral import Deferral
from libnetvirt.controller.packetin.fair_queue import QUANTUM, FairQueue
from libnetvirt.controller.packetin.slow_path import SlowPath
from libnetvirt.controller.rules.routing import is_routed
from libnetvirt.controller.topology.discovery import Forged, Late, Shared, is_foreign
from libnetvirt.controller.topology.link_state import Control

#: the rate of a network's token bucket, as a multiple of that of one endpoint
NETWORK_FACTOR = 4
#: seconds for which a switch sends up no unknown hosts of an endpoint that has too many
QUIET_TIME = 10
#: seconds between two events for the same problem
REPORT_INTERVAL = 10.0
#: events remembered, so as not to repeat them
REPORT_LIMIT = 10_000
#: seconds between two searches for silent hosts in on-demand networks
SWEEP_INTERVAL = 10.0
_ARP = b"\x08\x06"
# Compared with every frame: plain integers, which compare faster than members of an enumeration.
_OURS: Final = pipeline.COOKIE_MARK >> 48
_TAG: Final = pipeline.METADATA_TAG
_CLASSIFY: Final = Table.CLASSIFY.value
_SOURCE: Final = Table.SOURCE.value
_HOST: Final = Table.HOST.value
_GATEWAY: Final = Table.GATEWAY.value


class PacketInDispatcher:
    """Handles PACKET_IN and FLOW_REMOVED messages, and ports that go down."""

    def __init__(self, controller: Controller) -> None:
        self._core = controller
        self._state = controller.state
        self._by_point = self._state.rulesdb.by_point
        self._locator = self._state.locator
        self._ondemand = self._state.ondemand
        self._slow_path = SlowPath(controller, self._refuse)
        #: uuids of the networks whose frames are deferred by an operation; None: all
        self.busy: frozenset[str] | None = frozenset()
        self._deferral = Deferral()
        self._reported: dict[tuple[str, ...], float] = {}
        self._swept = 0.0
        self._flaps = Flaps()
        self.fair_queue = FairQueue()
        # For frames out of tunnels: they were limited where they entered.
        self._tunnelled = TokenBucket(float("inf"))
        #: the number of frames dropped because their endpoint or network sent too many
        self.dropped = 0

    @property
    def all_dropped(self) -> int:
        """The number of frames dropped so far, also of those that waited for flow entries or a neighbour."""
        return self.dropped + self._ondemand.dropped + self._state.neighbours.dropped

    @property
    def dropped_by_reason(self) -> dict[str, int]:
        """The same by reason, with the words of ``netvirt_packet_ins_dropped_total``."""
        deferred = self._deferral.refused
        return {
            "rate": self.dropped - deferred,
            "operation": deferred,
            "pair": self._ondemand.dropped,
            "neighbour": self._state.neighbours.dropped,
        }

    @property
    def waiting(self) -> dict[str, int]:
        """How many frames wait: for their network's turn, and for the end of an operation."""
        return {"fair": self.fair_queue.depth, "deferred": self._deferral.depth}

    def packet_in(self, dpid: int, message: of.PacketIn, now: float) -> Effects | None:
        """Process a frame that a switch sent up: limit its rate, and serve it or queue it.

        Returns the effects of an LLDP frame. For other frames, all messages were sent already: returns None.
        """
        head = message.head
        if head.cookie >> 48 != _OURS:
            return None
        table, metadata = head.table_id, head.metadata
        if table == _CLASSIFY:
            return self._lldp(dpid, message, now)
        if table < _GATEWAY:
            attachment = self._by_point.get((dpid, head.in_port, metadata & _TAG))
            if attachment is None:
                attachment = self._state.rulesdb.at(dpid, head.in_port, metadata & _TAG)
            if attachment is None:
                return self._core.probed(dpid, message, now)
            record = attachment.network
            if record.index != metadata >> 32:
                return None
            own = attachment.tokens
        else:
            found = self._entered(dpid, message)
            if found is None:
                return None
            record, attachment = found
            own = self._tunnelled if attachment is None else attachment.tokens
        shared = record.tokens
        own.left -= 1.0
        shared.left -= 1.0
        if (own.left < 0.0 or shared.left < 0.0) and (
            empty := self._refill_both(own, shared, now)
        ) is not None:
            self.dropped += 1
            record.dropped += 1
            if table == _SOURCE and attachment is not None:
                self._suppress_learning(attachment, now)
            elif attachment is not None and empty is own:
                self._slow_path.rate_exceeded(attachment, table)
            return None
        fair_queue = self.fair_queue
        if record.fair_round != fair_queue.round:
            record.granted += QUANTUM - record.quantum_left
            record.fair_round, record.quantum_left = fair_queue.round, QUANTUM
        record.quantum_left -= 1
        if record.quantum_left >= 0:
            if table >= _GATEWAY or attachment is None:
                self._serve_routed(record, attachment, dpid, message, now)
            else:
                self._serve(attachment, dpid, message, now)
        elif (first := fair_queue.enqueue(record, dpid, message)) is not None:
            self._serve_queued(*first, now)
        return None

    def serve_queued(self, now: float) -> bool:
        """Serve a round of queued frames, after all that was read at once has been dispatched. Returns
        whether any are left."""
        fair_queue = self.fair_queue
        if fair_queue.pending:
            for dpid, message in fair_queue.dequeue_round():
                self._serve_queued(dpid, message, now)
            return fair_queue.pending
        fair_queue.round += 1
        return False

    def _serve_queued(self, dpid: int, message: of.PacketIn, now: float) -> None:
        """Serve a frame that was queued, if its endpoint still exists."""
        head = message.head
        record = self._state.rulesdb.by_index.get(head.metadata >> 32)
        if record is None:
            return
        # Frames that come in before the next round are queued behind those that wait already.
        record.granted -= record.quantum_left
        record.fair_round, record.quantum_left = self.fair_queue.round, 0
        if head.table_id >= _GATEWAY:
            found = self._entered(dpid, message)
            if found is not None:
                self._serve_routed(*found, dpid, message, now)
            return
        attachment = self._state.rulesdb.at(dpid, head.in_port, head.metadata & pipeline.METADATA_TAG)
        if attachment is not None and attachment.network is record:
            self._serve(attachment, dpid, message, now)

    def _serve(self, attachment: Attachment, dpid: int, message: of.PacketIn, now: float) -> None:
        """Learn the source of a frame, and forward it if its network is on-demand."""
        record, frame, table = attachment.network, message.frame, message.head.table_id
        busy = self.busy
        if busy is None or (busy and record.uuid in busy):
            self._defer_frame(record, attachment.endpoint.uuid, dpid, message)
            return
        if not 14 <= len(frame) <= FRAME_LIMIT:
            return
        hosts = self._locator.by_mac(record.uuid)
        host = hosts.get(int.from_bytes(frame[6:12]))
        if host is None or host.endpoint != attachment.uuid:
            result = self._learn(attachment, frame, now)
            if result not in _SERVED:
                return
            host = hosts.get(int.from_bytes(frame[6:12]))
        elif table == _SOURCE:
            self._resend_rules(attachment, frame, now)
            return
        if table == _HOST:
            if host is not None:
                host.last_seen = now
            extra = self._ondemand.packet(attachment, frame, host if record.on_demand else None)
            if extra:
                # A flooded frame costs its endpoint and its network tokens for each message and its copies.
                attachment.tokens.left -= extra
                record.tokens.left -= extra

    def _entered(self, dpid: int, message: of.PacketIn) -> tuple[NetworkRecord, Attachment | None] | None:
        """The routed network of a frame, and the endpoint it entered at (None if it came out of a tunnel)."""
        head, rulesdb = message.head, self._state.rulesdb
        metadata = head.metadata
        record, attachment = rulesdb.by_index.get(metadata >> 32), None
        if record is None or not is_routed(record) or len(message.frame) > FRAME_LIMIT:
            return None
        if not metadata & pipeline.METADATA_TUNNEL:
            attachment = rulesdb.at(dpid, head.in_port, metadata & pipeline.METADATA_TAG)
            if attachment is None or attachment.network is not record:
                return None
        return record, attachment

    def _serve_routed(
        self,
        record: NetworkRecord,
        attachment: Attachment | None,
        dpid: int,
        message: of.PacketIn,
        now: float,
    ) -> None:
        """Hand a frame of a routed network to the slow path."""
        if self._is_busy(record):
            self._defer_frame(record, attachment.endpoint.uuid if attachment else "", dpid, message)
            return
        self._slow_path.packet(record, attachment, message.head.table_id, message.frame, now)

    def flow_removed(self, dpid: int, message: of.FlowRemoved) -> None:
        """Process an expired rule: its host is removed, or the other flow entries of its pair."""
        if not pipeline.is_ours(message.cookie) or message.reason not in _EXPIRED:
            return
        kind = message.cookie & 0xFFFF
        record = self._state.rulesdb.by_index.get(pipeline.cookie_network(message.cookie))
        metadata = message.match.get("metadata")
        if record is None or kind not in (Kind.HOST, Kind.PATH) or not isinstance(metadata, int):
            return
        if self._is_busy(record):
            if not self._deferral.add(("", record.uuid), lambda _: self.flow_removed(dpid, message)):
                self.dropped += 1
            return
        port = message.match.value("in_port")
        attachment = self._state.rulesdb.at(dpid, port, metadata & pipeline.METADATA_TAG)
        if attachment is None or attachment.network is not record:
            return
        if kind == Kind.PATH:
            self._ondemand.expired(dpid, attachment, message.match)
            return
        mac = message.match.value("eth_src")
        host = self._locator.find(record.uuid, mac)
        if host is not None and host.endpoint == attachment.endpoint.uuid:
            self._expire_host(attachment, host)

    def port_down(self, dpid: int, port: int) -> None:
        """Remove the hosts and neighbours behind a port that went down."""
        for record in self._state.rulesdb:
            for attachment in [b for b in record.on(dpid) if port in b.ports]:
                if any(self._state.is_live(dpid, member) for member in attachment.ports if member != port):
                    continue
                if self._is_busy(record):
                    if not self._deferral.add(("", record.uuid), lambda _: self.port_down(dpid, port)):
                        self.dropped += 1
                    return
                for host in self._locator.remove_learned_at(record.uuid, attachment.endpoint.uuid):
                    self._core.hosts.host_changed(record, host)
                self._slow_path.resolution.port_down(attachment)

    def resume(self, now: float) -> None:
        """Process what was deferred, as the operation is over."""
        self.busy = frozenset()
        for action in self._deferral.take():
            action(now)

    def poll(self, now: float) -> None:
        """Called once a second: ask incomplete and silent neighbours again, or give them up."""
        self._slow_path.resolution.tick(now, self._is_busy)

    def tick(self, now: float) -> None:
        """Called once per LLDP interval: remove silent hosts of on-demand networks, for which no rule
        expires."""
        if now - self._swept < SWEEP_INTERVAL:
            return
        self._swept = now
        limit = now - self._state.options.host_age
        for record in [e for e in self._state.rulesdb if e.on_demand]:
            for host in self._locator.hosts(record.uuid):
                if host.pair_flows or not host.last_seen:
                    host.last_seen = now
                elif host.last_seen < limit and not host.declared:
                    self._expire_host(record.endpoints[host.endpoint], host)

    def _refill_both(self, own: TokenBucket, shared: TokenBucket, now: float) -> TokenBucket | None:
        """Refill the buckets of an endpoint and its network, of which a token each was taken.

        Returns None if the frame may be served. Otherwise the tokens are given back and the bucket that is
        empty is returned.
        """
        rate = self._state.options.packet_rate
        if not own.refill(rate, now):
            shared.left += 1.0
            return own
        if not shared.refill(rate * NETWORK_FACTOR, now):
            own.left += 1.0
            return shared
        return None

    def _is_busy(self, record: NetworkRecord) -> bool:
        return self.busy is None or record.uuid in self.busy

    def _defer_frame(self, record: NetworkRecord, endpoint: str, dpid: int, message: of.PacketIn) -> None:
        """Keep a frame until the operation is over."""
        source = record.uuid, endpoint
        if self._deferral.add_frame(source, lambda now: self.packet_in(dpid, message, now)):
            # It is counted when it is served.
            record.granted -= 1
        else:
            self.dropped += 1

    def _resend_rules(self, attachment: Attachment, frame: bytes, now: float) -> None:
        """Send a known host's rules again, at most once a second, as its frame should not have come up.

        The rules are still on their way to the switch, or were lost.
        """
        network, mac = attachment.network.uuid, int.from_bytes(frame[6:12])
        if self._may_report(now, 1.0, "resent", network, mac_text(mac)):
            for placed in self._state.installed.unit(("host", network, mac)):
                self._core.wire.send(placed.dpid, add_message(placed.entry))

    def _learn(self, attachment: Attachment, frame: bytes, now: float) -> LearnResult:
        """Learn the source of a frame."""
        core, state, record = self._core, self._state, attachment.network
        mac = int.from_bytes(frame[6:12])
        moved_from = state.locator.find(record.uuid, mac)
        result = state.locator.learn(record.uuid, attachment.endpoint.uuid, mac)
        if result in (LearnResult.LEARNED, LearnResult.MOVED):
            host = state.locator.find(record.uuid, mac)
            assert host is not None
            host.addresses = _addresses(frame) or host.addresses
            if result is LearnResult.MOVED and moved_from is not None:
                self._publish(
                    "host.moved",
                    attachment,
                    mac,
                    f"moved from endpoint {moved_from.endpoint} to {host.endpoint}",
                )
                if self._flaps.moved((record.uuid, mac), now):
                    self._publish(
                        "host.flapping",
                        attachment,
                        mac,
                        f"moves again and again between endpoints {moved_from.endpoint} and {host.endpoint}: "
                        "is there a loop, such as a cable between them? Remove it, and give both endpoints "
                        "storm protection",
                    )
            else:
                self._publish("host.learned", attachment, mac, f"was learned at endpoint {host.endpoint}")
            core.hosts.host_changed(record, host)
        elif result is LearnResult.FULL:
            if moved_from is not None:
                core.hosts.host_changed(record, moved_from)
            self._suppress_learning(attachment, now)
        elif result is LearnResult.ELSEWHERE:
            self._refuse(attachment, mac, now, "is declared at another endpoint of the network")
        elif result is LearnResult.FOREIGN:
            holder = state.rulesdb.networks[state.locator.native_holder(mac) or ""].description
            self._refuse(
                attachment,
                mac,
                now,
                f"is already in use in network {holder.name}: networks with native encapsulation need "
                "addresses that are unique among them, or use encapsulation vlan",
            )
        return result

    def _expire_host(self, attachment: Attachment, host: Host) -> None:
        if self._locator.remove_learned(attachment.network.uuid, host.mac) is not None:
            self._core.hosts.host_changed(attachment.network, host)

    def _suppress_learning(self, attachment: Attachment, now: float) -> None:
        """Tell the switch to send up no unknown hosts of an endpoint for a while, and report that."""
        if self._may_report(now, QUIET_TIME, "quiet", attachment.network.uuid, attachment.endpoint.uuid):
            if attachment.port is not None and not attachment.network.on_demand:
                self._core.wire.send(
                    attachment.dpid,
                    add_message(self._state.switching.suppress_learning(attachment, QUIET_TIME)),
                )
            name = attachment.network.description.name
            self._core.publish(
                "host.refused",
                f"endpoint {attachment.endpoint.uuid} of network {name} has too many hosts, or sends too "
                f"many frames of unknown hosts: no host is learned there for {QUIET_TIME} s",
                network=attachment.network.uuid,
                endpoint=attachment.endpoint.uuid,
            )

    def _refuse(self, attachment: Attachment, mac: int, now: float, reason: str) -> None:
        if self._may_report(
            now, REPORT_INTERVAL, "refused", attachment.network.uuid, attachment.endpoint.uuid
        ):
            self._publish("host.refused", attachment, mac, reason)

    def _publish(self, kind: str, attachment: Attachment, mac: int, what: str) -> None:
        name = attachment.network.description.name
        self._core.publish(
            kind,
            f"host {mac_text(mac)} of network {name} {what}",
            network=attachment.network.uuid,
            endpoint=attachment.endpoint.uuid,
            mac=mac_text(mac),
        )

    def _may_report(self, now: float, interval: float, *key: str) -> bool:
        if now - self._reported.get(key, -interval) < interval:
            return False
        if len(self._reported) > REPORT_LIMIT:
            self._reported.clear()
        self._reported[key] = now
        return True

    def _lldp(self, dpid: int, message: of.PacketIn, now: float) -> Effects | None:
        core, state, port = self._core, self._state, message.head.in_port
        if is_foreign(message.frame):
            self._foreign_lldp(dpid, port)
            return None
        try:
            if state.rulesdb.holds_port(dpid, port):
                raise Forged("an endpoint is at this port")
            if not state.may_link(dpid, port):
                raise Forged("the port is not one of link-ports")
            if state.latency.arrived(dpid, port, message.frame, now):
                return None
            if state.link_probes.witnessed(dpid, port, message.frame, now):
                return None
            if state.discovery.receive(dpid, port, message.frame, now):
                # The far end may not have been there when we sent last.
                if state.discovery.may_answer(dpid, port, now):
                    return REROUTE | core.topology.lldp(dpid, [port], now)
                return REROUTE
        except Shared as error:
            if error.new:
                core.publish("link.shared", shared_text(error.ends), switch=switch_text(dpid), port=str(port))
            return REROUTE if error.changed else None
        except Forged as error:
            if isinstance(error, Late) and self._was_held_up(dpid, error, now):
                return None
            state.discovery.ignore(dpid, port)
            name = switch_text(dpid)
            if self._may_report(now, REPORT_INTERVAL, "forged", name, str(port), str(error)):
                core.publish(
                    "discovery.forged",
                    f"an LLDP frame at port {port} of switch {name} is ignored: {error}",
                    switch=name,
                    port=str(port),
                )
        return None

    def _was_held_up(self, dpid: int, late: Late, now: float) -> bool:
        """Whether a control connection carried nothing for a while since a frame was sent."""
        control = self._state.control
        return any(control.of(d, now, late.sent) is not Control.ANSWERS for d in (dpid, late.source[0]))

    def _foreign_lldp(self, dpid: int, port: int) -> None:
        """Count a frame of another system, for example lldpd on a host, and report the first at its port."""
        if self._state.discovery.ignore_foreign(dpid, port):
            name = switch_text(dpid)
            self._core.publish(
                "discovery.foreign",
                f"another system sends LLDP frames into port {port} of switch {name}: they are ignored",
                switch=name,
                port=str(port),
            )


_EXPIRED = (of.FlowRemovedReason.IDLE_TIMEOUT, of.FlowRemovedReason.HARD_TIMEOUT)
_SERVED = (LearnResult.LEARNED, LearnResult.MOVED, LearnResult.FULL)


def _addresses(frame: bytes) -> tuple[str, ...]:
    """The sender's IPv4 address if the frame is an ARP packet (RFC 826), as a tuple of texts; else empty."""
    if frame[12:14] != _ARP or len(frame) < 32:
        return ()
    sender = frame[28:32]
    return () if not any(sender) else (".".join(map(str, sender)),)
