"""``ovs-appctl ofproto/trace``: what Open vSwitch does to a frame, read from the actions of its datapath."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.lab.network import Lab

_ACTIONS = re.compile(r"^Datapath actions: (.*)$", re.MULTILINE)
_PORT = re.compile(r"^ +\S+ (\d+)/(\d+):", re.MULTILINE)
_TAGS = (0x8100, 0x88A8)
CONTROLLER = 0
#: switches that copies of a frame go through before the rest is left: it loops
_HOPS = 60

#: a frame: its headers, outermost first, without those above Ethernet
Headers = tuple[tuple[object, ...], ...]
Outcome = Counter[tuple[int, Headers]]


@dataclass
class _Packet:
    """Headers: ("eth", dst, src), ("vlan", tpid, vlan), ("mpls", label, bottom), ("type", n)."""

    headers: list[tuple[object, ...]]
    payload: bytes
    recirculated: list[tuple[str, _Packet]] = field(default_factory=list)

    def copy(self) -> _Packet:
        return _Packet(list(self.headers), self.payload, self.recirculated)

    def encoded(self) -> bytes:
        wire = b""
        before = ""
        for header in self.headers:
            kind, *values = header
            if kind == "eth":
                wire += b"".join(bytes.fromhex(str(v).replace(":", "")) for v in values)
            elif kind == "vlan":
                wire += _number(values[0], 2) + _number(values[1], 2)
            elif kind == "mpls":
                wire += b"" if before == "mpls" else b"\x88\x47"
                wire += (_int(values[0]) << 12 | _int(values[1]) << 8 | 64).to_bytes(4)
            elif kind == "type":
                wire += _number(values[0] or len(self.payload), 2)
            before = str(kind)
        return wire + self.payload


class Tracer:
    """Asks one lab's Open vSwitch."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        #: what Open vSwitch said of the last frame
        self.said = ""
        #: (port, bytes) of the frames that left the switch that was asked last
        self.left: list[tuple[int, bytes]] = []
        self._numbers = {int(dp): int(port) for port, dp in _PORT.findall(lab.ovs.appctl("dpif/show"))}

    def trace(self, switch: int, port: int, frame: bytes) -> Outcome:
        """Which frames leave a switch that gets this one, and where; port 0 is the controller.

        The switch has no controller meanwhile: it would get what the trace sends up.
        """
        found: Outcome = Counter()
        self.said, self.left = "", []
        waiting = [("", _Packet(*parse(frame)))]
        while waiting:
            again, packet = waiting.pop(0)
            where = f"in_port={port}" + (f",recirc_id={again}" if again else "")
            said = self._lab.ovs.appctl(
                "ofproto/trace", self._lab.bridge(switch), where, (packet.encoded() if again else frame).hex()
            )
            self.said += said
            (actions,) = _ACTIONS.findall(said)
            packet.recirculated = []
            self._run(packet, actions, found)
            waiting += packet.recirculated
        return found

    def across(self, switch: int, port: int, frame: bytes) -> Counter[tuple[int, int, bytes]]:
        """Which frames leave at ports that are no links, after all switches; port 0 is the controller."""
        found: Counter[tuple[int, int, bytes]] = Counter()
        waiting = [(switch, port, frame)]
        for _ in range(_HOPS):
            if not waiting:
                break
            here, entered, sent = waiting.pop(0)
            self.trace(here, entered, sent)
            for out, wire in self.left:
                far = self._lab.link_ports.get((here, out))
                if far is None:
                    found[here, out, wire] += 1
                else:
                    waiting.append((*far, wire))
        return found

    def _run(self, packet: _Packet, actions: str, found: Outcome) -> None:
        for action in _split(actions):
            name, _, rest = action.partition("(")
            rest = rest[:-1]
            if name.isdigit():
                port = self._numbers[int(name)]
                found[port, tuple(packet.headers)] += 1
                self.left.append((port, packet.encoded()))
            elif name == "userspace":
                assert "controller" in rest, action
                found[CONTROLLER, ()] += 1
                self.left.append((CONTROLLER, b""))
            elif name == "clone":
                self._run(packet.copy(), rest, found)
            elif name == "recirc":
                packet.recirculated.append((rest, packet.copy()))
            elif name == "check_pkt_len":
                parts = dict(part.partition("(")[::2] for part in _split(rest) if "(" in part)
                # The frames of tests are small.
                self._run(packet, parts["le"][:-1], found)
            elif name not in ("drop", "meter", "trunc"):
                _change(packet.headers, name, rest)


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _number(value: object, width: int) -> bytes:
    return _int(value).to_bytes(width)


def parse(frame: bytes) -> tuple[list[tuple[object, ...]], bytes]:
    """The headers of a frame, and what follows them."""
    headers: list[tuple[object, ...]] = [("eth", frame[:6].hex(":"), frame[6:12].hex(":"))]
    at = 12
    while (kind := int.from_bytes(frame[at : at + 2])) in _TAGS:
        headers.append(("vlan", kind, int.from_bytes(frame[at + 2 : at + 4]) & 0xFFF))
        at += 4
    at += 2
    if kind not in (0x8847, 0x8848):
        return [*headers, ("type", kind if kind >= 0x600 else 0)], frame[at:]
    while True:
        word = int.from_bytes(frame[at : at + 4])
        headers.append(("mpls", word >> 12, word >> 8 & 1))
        at += 4
        if word >> 8 & 1:
            break
    inner = frame[at:]
    if len(inner) <= 14 or not any(inner):
        return [*headers, ("end",)], inner
    within, payload = parse(inner)
    return headers + within, payload


def _split(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _change(headers: list[tuple[object, ...]], name: str, rest: str) -> None:
    values = dict(part.partition("=")[::2] for part in _split(rest))
    if name == "push_vlan":
        headers.insert(1, ("vlan", int(values.get("tpid", "0x8100"), 16), int(values["vid"])))
    elif name == "pop_vlan":
        assert headers.pop(1)[0] == "vlan"
    elif name == "push_eth":
        headers.insert(0, ("eth", values["dst"], values["src"]))
    elif name == "pop_eth":
        assert headers.pop(0)[0] == "eth"
    elif name in ("add_mpls", "push_mpls"):
        at = next((n for n, h in enumerate(headers) if h[0] != "eth"), 1) if name == "push_mpls" else 0
        headers.insert(at, ("mpls", int(values["label"]), int(values["bos"])))
    elif name == "pop_mpls":
        at = next(n for n, h in enumerate(headers) if h[0] == "mpls")
        del headers[at]
    elif name == "set":
        _set(headers, rest)
    else:
        raise AssertionError(f"an action of the datapath that tests do not know: {name}({rest})")


def _set(headers: list[tuple[object, ...]], rest: str) -> None:
    what, _, inside = rest.partition("(")
    values = dict(part.partition("=")[::2] for part in _split(inside[:-1]))
    if what == "eth":
        _, dst, src = headers[0]
        headers[0] = ("eth", values.get("dst", dst), values.get("src", src))
    elif what == "mpls":
        at = next(n for n, h in enumerate(headers) if h[0] == "mpls")
        headers[at] = ("mpls", int(values["label"]), int(values["bos"]))
    else:
        assert what in ("ipv4", "ipv6"), rest
