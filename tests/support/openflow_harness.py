"""The harness of the openflow driver with real switches."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import libnetvirt
from libnetvirt import Encapsulation, VirtualNetwork
from libnetvirt import openflow as of
from libnetvirt.conformance import Ability, Arrival, Harness, Place
from libnetvirt.controller.dataplane.pipeline import BASE_METERS
from libnetvirt.controller.topology.discovery import organisation_value
from libnetvirt.model import Link
from tests.support.certificates import Certified
from tests.support.lab.fresh_controller import differences
from tests.support.lab.network import Lab
from tests.support.lab.socket_overruns import unread
from tests.support.lab.switch_requests import ask
from tests.support.netvirt_server import Served
from tests.support.promised_times import crowd

#: in the cookies of all our rules: a mark, the network's index, the kind of rule
_COOKIE = re.compile(r"cookie=0x4e56([0-9a-f]{8})([0-9a-f]{4})\b")
_METER = re.compile(r"meter meter=(\d+)")
_TUNNEL = 2
#: the destination and source of discovery frames, which leave at host ports, too
_DISCOVERY = bytes.fromhex("0180c200000e"), bytes((0x02, 0x4E, 0x56))
#: the destination of probes of a link, which leave at host ports where a test has made a link
_PROBE = bytes.fromhex("024e56000011")
#: the subtype of what discovery frames say
_WHERE = 1
RING = [(1, 2), (2, 3), (3, 4), (4, 1)]


#: seconds for which links are known to be probed in an encapsulation that was used
_PROBED = 30.0
#: seconds for Open vSwitch to update its cache of flows after a change of its tables
_CACHE = 0.03


class OpenFlow(Harness):
    """``netvirt serve`` and a lab of Open vSwitch bridges, a ring of four unless said otherwise."""

    abilities = frozenset(Ability)
    timeout = 20.0
    quiet_time = 0.03
    stream_rate = 3000.0
    on_demand_stream_rate = 500.0  # 500 frames may wait for an operation, which takes less than a second

    def __init__(
        self, switches: int = 4, links: Sequence[tuple[int, int]] = RING, hosts: int = 3, options: str = ""
    ) -> None:
        self.lab = Lab(switches, links, hosts)
        self.served = Served(options)
        self._connection: libnetvirt.Connection | None = None
        self._down: set[tuple[str, str]] = set()
        #: when paths of an encapsulation were seen to be what they stay
        self._settled: dict[Encapsulation | None, float] = {}
        #: the certificate of the switches and the authority that they trust, if they use TLS
        self.certified: tuple[Certified, Path] | None = None

    def start(self) -> None:
        try:
            self.lab.start()
            if self.certified:
                self.certify(*self.certified)
            self.lab.control(self.served.target)
            self.start_controller()
        except BaseException:
            self.stop()
            raise

    def certify(self, shown: Certified, ca: Path) -> None:
        """Set the certificate of the switches and the authority that they trust."""
        self.lab.ovs.vsctl("set-ssl", str(shown.key), str(shown.certificate), str(ca))

    def stop(self) -> None:
        self._close()
        self.lab.stop()
        self.served.stop()

    @property
    def connection(self) -> libnetvirt.Connection:
        assert self._connection is not None
        return self._connection

    def host_ports(self) -> Sequence[Place]:
        return [Place(str(s), str(p)) for s, p in self.lab.host_ports]

    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        self.lab.send(int(place.switch), int(place.port), *frames)

    def receive(self, timeout: float) -> list[Arrival]:
        deadline = time.monotonic() + timeout
        while True:
            arrived = self.lab.receive(max(0.0, deadline - time.monotonic()))
            found = [Arrival(Place(str(s), str(p)), f) for s, p, f in arrived if not is_discovery(f)]
            if found or time.monotonic() >= deadline:
                return found

    def flush_caches(self) -> None:
        # Open vSwitch answers a barrier before it has gone through its cache; after ten thousand flows of
        # another test that takes long enough for a new network's first frame to meet an old cached flow.
        self.lab.ovs.appctl("revalidator/purge")

    def await_data_path(self) -> None:
        # The thread that replies is the one that updates the tables: what the controller sent before is there
        # now. The cache follows; Open vSwitch does not say when.
        self.lab.ovs.appctl("version")
        time.sleep(_CACHE * crowd())

    def await_paths(self) -> None:
        resolve = self.connection.capabilities().resolve
        used = {
            resolve(one.rules).encapsulation
            for one in self.connection.descriptions()
            if len({endpoint.switch for endpoint in one.endpoints}) > 1
        }

        def doubtful() -> list[Link]:
            links = self.connection.substrate().links
            return [link for link in links if link.up and not used <= set(link.encapsulations)]

        # Links are probed in an encapsulation for as long as it is used, and a minute longer.
        began = time.monotonic()
        if doubtful() or any(began - self._settled.get(kind, -_PROBED) >= _PROBED for kind in used):
            self._until_none(doubtful, "links that are not known to pass")
            # An operation waits for the moves that have begun; what they have left is removed later.
            self.connection.create(VirtualNetwork(name="await paths")).remove()
            self._until_none(self.differences, "differences")
        self._settled |= dict.fromkeys(used, time.monotonic())

    @staticmethod
    def _until_none(found: Callable[[], Sequence[object]], what: str) -> None:
        deadline = time.monotonic() + 60
        while left := found():
            if time.monotonic() > deadline:
                raise RuntimeError(f"after 60 s there are {what}: {left}")
            time.sleep(0.02)

    def overruns(self) -> int:
        return unread() + self.lab.unread() + self.lab.packet_ins_dropped()

    def carries(self, network: VirtualNetwork, encapsulation: str, frame: bytes) -> bool:
        labelled = encapsulation == "mpls" or any(e.mpls is not None for e in network.endpoints)
        at = 12
        while frame[at : at + 2] in (b"\x81\x00", b"\x88\xa8") and at < 20:  # Open vSwitch parses two tags
            at += 4
        return not (labelled and frame[at : at + 2] in (b"\x88\x47", b"\x88\x48"))

    def links(self) -> Sequence[tuple[str, str]]:
        return [(str(a), str(b)) for a, b in self.lab.links]

    def cut_link(self, a: str, b: str) -> None:
        self._down |= {(a, b), (b, a)}
        self.lab.cut_link(int(a), int(b))

    def restore_link(self, a: str, b: str) -> None:
        self._down -= {(a, b), (b, a)}
        self.lab.restore_link(int(a), int(b))

    def unplug(self, place: Place) -> None:
        self.lab.port_down(int(place.switch), int(place.port))

    def plug(self, place: Place) -> None:
        self.lab.port_up(int(place.switch), int(place.port))

    def restart_switch(self, switch: str) -> None:
        self.lab.restart_switch(int(switch))

    def kill_controller(self) -> None:
        self.served.kill()

    def revive_controller(self) -> None:
        """Start the controller without waiting for switches."""
        self._close()
        self.served.start()
        self._connection = libnetvirt.open(self.served.client_uri)

    def start_controller(self) -> None:
        again = self._connection is not None
        self.revive_controller()
        if again:
            self.lab.reconnect()
        wanted = {end for a, b in self.links() for end in ((a, b), (b, a))} - self._down

        def unsettled() -> Sequence[object]:
            substrate = self.connection.substrate()
            known = {s.id for s in substrate.switches if s.connected}
            # Of which it is known what they pass: paths do not change any more.
            links = {(link.source, link.destination) for link in substrate.links if link.up and link.mtu}
            settled = known == {str(s) for s in self.lab.switches} and links == wanted
            return () if settled else (known, links)

        self._until_none(unsettled, "other switches and links than the lab has")

    def differences(self) -> list[str]:
        """What a newly started controller would change in the switches."""
        return differences(self.lab, self.served.state)

    def leftovers(self) -> list[str]:
        return [
            f"switch {s}: {line}"
            for s in self.lab.switches
            if self._holds_networks(s)
            for line in self.lab.dump(s)
            if of_a_network(line)
        ]

    def _holds_networks(self, switch: int) -> bool:
        """The short question before the long answer, which takes three programs."""
        flows, groups, meters = ask(
            self.lab, switch, of.FlowStatsRequest(), of.GroupDescRequest(), of.MeterConfigRequest()
        )
        return (
            bool(groups.entries)
            or any(meter.meter_id not in BASE_METERS for meter in meters.entries)
            or any(of_a_network(f"cookie={flow.cookie:#x}") for flow in flows.entries)
        )

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(libnetvirt.NetvirtError):
                connection.close()


def is_lldp(frame: bytes) -> bool:
    """Whether this is a discovery frame that says where it was sent from, and no probe."""
    return is_discovery(frame) and organisation_value(frame, _WHERE) is not None


def is_discovery(frame: bytes) -> bool:
    """Whether this is a discovery frame, or a probe of a link."""
    return frame.startswith(_PROBE) or (frame.startswith(_DISCOVERY[0]) and _DISCOVERY[1] in frame)


def of_a_network(line: str) -> bool:
    """Whether a line of ``Lab.dump`` is there because of a virtual network."""
    if line.startswith("group "):
        return True
    if meter := _METER.match(line):
        return int(meter[1]) not in BASE_METERS
    found = _COOKIE.search(line)
    return found is not None and (int(found[1], 16) != 0 or int(found[2], 16) == _TUNNEL)
