"""One emulated switch, without I/O: takes bytes from the controller and queues bytes for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from benchmarks.fleet import wire
from benchmarks.fleet.graphs import FIRST_LINK_PORT
from benchmarks.fleet.tables import PLAIN, Miss, Tables

_USUAL = 40 + wire.FRAME_LENGTH
#: the destination of probes of links and tunnels
_PROBE = bytes.fromhex("024e56000011")
_TO_HOST = b"\0\0\0\x10\0\0"
_MODS = (wire.FLOW_MOD, wire.GROUP_MOD, wire.METER_MOD)
_BUNDLE_OPEN, _BUNDLE_COMMIT = 0, 4
_BUNDLE_DISCARD = 6


class Surroundings(Protocol):
    """The callbacks of a switch."""

    def sent(self, switch: Switch, port: int, frame: bytes) -> None:
        """A frame left at a port."""

    def entered(self, label: bytes, frame: bytes) -> None:
        """A frame was sent into the tunnel with this outer label."""

    def came_out(self, place: int, number: int) -> None:
        """The host frame with this number left at a host port (switch << 32 | port)."""

    def writable(self, switch: Switch) -> None:
        """The switch has queued its first message since the last write."""

    def asked(self) -> None:
        """The controller sent another message than a packet-out or an echo request."""

    def barrier(self) -> None:
        """A barrier was answered."""


class Switch:
    """A switch. ``out`` holds its queued messages.

    While ``keeping`` is set, flow-mods change the tables; otherwise they are only counted, which a controller
    cannot notice.
    """

    def __init__(self, dpid: int, ports: Iterable[int], around: Surroundings) -> None:
        self.dpid = dpid
        self.ports = dict.fromkeys(ports, True)
        self.host_places = frozenset(dpid << 32 | p for p in self.ports if p < FIRST_LINK_PORT)
        self.tables = Tables()
        self.keeping = True
        self.out: list[bytes] = []
        self.greeted = False
        self.flow_mods = 0
        self.received: Counter[str] = Counter()
        self.lldp_cookie = PLAIN.cookie
        self._around = around
        self._rest = b""
        self._bundles: dict[int, list[bytes]] = {}
        self._heads: dict[int, bytes] = {}

    def connected(self) -> None:
        """Start a connection with a HELLO, and discard the partial message of an earlier one."""
        self._rest = b""
        self.greeted = False
        self._bundles.clear()
        self.say(wire.message(wire.HELLO, 0))

    def say(self, data: bytes) -> None:
        """Queue a message for the next write."""
        if not self.out:
            self._around.writable(self)
        self.out.append(data)

    def receive(self, data: bytes) -> None:
        """Take bytes from the controller."""
        if self._rest:
            data = self._rest + data
        pos, size, place = 0, len(data), self.dpid << 32
        came_out, hosts, from_bytes = self._around.came_out, self.host_places, int.from_bytes
        while size - pos >= 8:
            length = data[pos + 2] << 8 | data[pos + 3]
            if length < 8:
                raise ValueError(f"a message of {length} bytes")
            end = pos + length
            if end > size:
                break
            kind = data[pos + 1]
            if kind == wire.FLOW_MOD and not self.keeping:
                self.flow_mods += 1
            elif kind == wire.PACKET_OUT:
                if length == _USUAL and data[pos + 24 : pos + 30] == _TO_HOST:
                    # The usual one: a host's frame, one output, to a port below 65536.
                    here = place | data[pos + 30] << 8 | data[pos + 31]
                    if here in hosts:
                        came_out(here, from_bytes(data[end - 4 : end]))
                        pos = end
                        continue
                self._packet_out(data, pos, end)
            elif kind == wire.BARRIER_REQUEST:
                self.say(b"\x04\x15\x00\x08" + data[pos + 4 : pos + 8])
                self._around.barrier()
            else:
                self._other(kind, data[pos:end])
            pos = end
        self._rest = data[pos:]

    def set_port(self, port: int, up: bool) -> None:
        """Set the link of a port up or down, and report it."""
        self.ports[port] = up
        self.say(wire.port_status(self.dpid, port, up))

    def interpret(self) -> None:
        """Derive from the rules what the packet-ins of host frames and LLDP frames look like."""
        found, default = self.tables.misses()
        self._heads = {p: _head(p, found.get(p, default)) for p in self.ports}
        self.lldp_cookie = self.tables.lldp_cookie()

    def head(self, port: int) -> bytes:
        """The head of the PACKET_IN for a frame of FRAME_LENGTH bytes received at a port."""
        head = self._heads.get(port)
        if head is None:
            head = self._heads[port] = _head(port, PLAIN)
        return head

    def arrived(self, port: int, frame: bytes) -> None:
        """Receive a frame from a link and send it to the controller."""
        if frame[12:14] == wire.LLDP:
            self.lldp_cookie = (
                self.lldp_cookie if self.lldp_cookie != PLAIN.cookie else self.tables.lldp_cookie()
            )
            self.say(wire.packet_in_head(port, len(frame), 0, self.lldp_cookie, None, 1) + frame)
        elif len(frame) == wire.FRAME_LENGTH:
            self.say(self.head(port) + frame)
        elif frame.startswith(_PROBE):
            self.probed(port, frame)

    def probed(self, port: int, frame: bytes) -> None:
        """Receive a probe of a link or a tunnel, and send it to the controller."""
        self.say(wire.packet_in_head(port, len(frame), 4, self.tables.lldp_cookie(), None, 1) + frame)

    def _packet_out(self, data: bytes, pos: int, end: int) -> None:
        length = data[pos + 16] << 8 | data[pos + 17]
        start = pos + 24 + length
        if length == 16 and data[pos + 24 : pos + 28] == b"\0\0\0\x10":
            port = int.from_bytes(data[pos + 28 : pos + 32])
            if port < wire.PORT_IN:
                self._around.sent(self, port, data[start:end])
                return
        in_port, frame = int.from_bytes(data[pos + 12 : pos + 16]), data[start:end]
        group = wire.group_of(data[pos + 24 : start])
        if group is not None:
            self._around.entered(self.tables.outer_label(group), frame)
            return
        for port in wire.outputs(data[pos + 24 : start]):
            if port in (wire.PORT_FLOOD, wire.PORT_ALL):
                for one, up in self.ports.items():
                    if one != in_port and up:
                        self._around.sent(self, one, frame)
            else:
                self._around.sent(self, in_port if port == wire.PORT_IN else port, frame)

    def _other(self, kind: int, frame: bytes) -> None:
        if kind != wire.ECHO_REQUEST:
            self._around.asked()
        xid = int.from_bytes(frame[4:8])
        if kind in _MODS:
            self._change(frame)
        elif kind == wire.EXPERIMENTER:
            self._experimenter(xid, frame)
        elif kind == wire.MULTIPART_REQUEST:
            self._multipart(xid, frame)
        elif kind == wire.ECHO_REQUEST:
            self.say(wire.message(wire.ECHO_REPLY, xid, frame[8:]))
        elif kind == wire.FEATURES_REQUEST:
            self.greeted = True
            self.say(wire.features_reply(xid, self.dpid))
        elif kind == wire.GET_CONFIG:
            self.say(wire.message(wire.GET_CONFIG_REPLY, xid, b"\0\0\xff\xff"))
        elif kind == wire.ROLE_REQUEST:
            self.say(wire.message(wire.ROLE_REPLY, xid, frame[8:]))

    def _change(self, frame: bytes) -> None:
        self.received[_NAMES[frame[1]]] += 1
        self.received["bytes"] += len(frame)
        if frame[1] == wire.FLOW_MOD:
            self.flow_mods += 1
        if self.keeping:
            self.tables.apply(frame)

    def _experimenter(self, xid: int, frame: bytes) -> None:
        kind = int.from_bytes(frame[12:16])
        if int.from_bytes(frame[8:12]) != wire.ONF or kind not in (wire.BUNDLE_CONTROL, wire.BUNDLE_ADD):
            self.say(wire.message(wire.ERROR, xid, b"\0\x01\0\x03" + frame[:64]))
            return
        bundle = int.from_bytes(frame[16:20])
        if kind == wire.BUNDLE_ADD:
            self._bundles.setdefault(bundle, []).append(frame[24:])
            return
        step = frame[21]
        if step == _BUNDLE_OPEN:
            self._bundles[bundle] = []
        elif step == _BUNDLE_COMMIT:
            for one in self._bundles.pop(bundle, ()):
                self._change(one)
            self.received["bundles"] += 1
        elif step == _BUNDLE_DISCARD:
            self._bundles.pop(bundle, None)
        reply = frame[8:20] + bytes((0, step + 1)) + frame[22:]
        self.say(wire.message(wire.EXPERIMENTER, xid, reply))

    def _multipart(self, xid: int, frame: bytes) -> None:
        kind = frame[8] << 8 | frame[9]
        tables = self.tables
        entries: Iterator[bytes] = iter(())
        if kind == wire.DESC:
            entries = iter([wire.description(self.dpid)])
        elif kind == wire.FLOW:
            entries = tables.flow_stats(frame)
        elif kind == wire.AGGREGATE:
            entries = iter([bytes(16) + tables.count(frame).to_bytes(4) + bytes(4)])
        elif kind == wire.GROUP_DESC:
            entries = tables.group_desc()
        elif kind == wire.METER_CONFIG:
            entries = tables.meter_config()
        elif kind == wire.METER_FEATURES:
            entries = iter([(1 << 16).to_bytes(4) + (2).to_bytes(4) + (15).to_bytes(4) + b"\x01\0\0\0"])
        elif kind == wire.PORT_DESC:
            entries = (wire.port(self.dpid, number, up) for number, up in self.ports.items())
        for reply in wire.multipart_replies(xid, kind, entries):
            self.say(reply)


_NAMES = {wire.FLOW_MOD: "flow-mods", wire.GROUP_MOD: "group-mods", wire.METER_MOD: "meter-mods"}


def _head(port: int, miss: Miss) -> bytes:
    return wire.packet_in_head(
        port, table=miss.table, cookie=miss.cookie, metadata=miss.metadata, reason=miss.reason
    )
