"""The harness of the ovn driver with a real OVN."""

from __future__ import annotations

import contextlib
import itertools
import re
import selectors
import time
from collections.abc import Sequence

import libnetvirt
from labs.ovn import OVN, why_not
from libnetvirt.conformance import Ability, Allowance, Arrival, Harness, Place
from tests.support.lab.wire import Wire, set_up
from tests.support.netvirt_server import Served
from tests.support.requirements import need

_HOSTS = ("--columns=_uuid,mac", "list")
#: rules of a chassis that are there because of a logical port or a logical switch
_METADATA = re.compile(r"metadata=0x[1-9a-f]|load:0x[0-9a-f]+->OXM_OF_METADATA")


class Ovn(Harness):
    """``netvirt serve`` and a lab of three chassis; the links are the tunnels between them."""

    abilities = frozenset(
        {Ability.UNPLUG, Ability.RESTART_SWITCH, Ability.RESTART_CONTROLLER, Ability.LEFTOVERS}
    )
    # A router of OVN forwards the packets that it originates through itself, and turns a ping into its reply.
    # It solicits neighbours from the address that it makes of its MAC address.
    allowances = frozenset(Allowance)
    timeout = 20.0
    quiet_time = 0.03
    # The userspace datapath forwards in the thread that changes its rules; OVN makes some for every host.
    frame_rate = 1000.0

    def __init__(self, chassis: int = 3, hosts: int = 3) -> None:
        self.lab = OVN(chassis, hosts)
        self._served: Served | None = None
        self._connection: libnetvirt.Connection | None = None
        self._wires: dict[Place, Wire] = {}
        self._learned = ""
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        try:
            self.lab.start()
            for place in self.host_ports():
                self._wires[place] = Wire(self.lab.far(*place))
                self._selector.register(self._wires[place], selectors.EVENT_READ, place)
            self._served = Served(uri=self.lab.uri)
            self.start_controller()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._close()
        if self._served is not None:
            self._served.stop()
        for wire in self._wires.values():
            wire.close()
        self._selector.close()
        self.lab.stop()

    @property
    def connection(self) -> libnetvirt.Connection:
        assert self._connection is not None
        return self._connection

    def host_ports(self) -> Sequence[Place]:
        return [Place(*place) for place in self.lab.host_ports]

    def send(self, place: Place, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._wires[place].send(frame)

    def receive(self, timeout: float) -> list[Arrival]:
        found = []
        for key, _ in self._selector.select(timeout):
            wire = key.fileobj
            assert isinstance(wire, Wire)
            while (frame := wire.receive()) is not None:
                found.append(Arrival(key.data, frame))
        return found

    def flush_caches(self) -> None:
        for chassis in self.lab.chassis.values():
            chassis.switch.ask("revalidator/purge")

    def await_data_path(self) -> None:
        # A host is reported when OVN has learned it; until all chassis know it, frames to it are flooded.
        learned = self.lab.sbctl("--bare", *_HOSTS, "FDB", "--", *_HOSTS, "MAC_Binding")
        if learned != self._learned:
            self._learned = learned
            self.lab.nbctl("--wait=hv", "sync")

    def links(self) -> Sequence[tuple[str, str]]:
        return list(itertools.combinations(self.lab.chassis, 2))

    def unplug(self, place: Place) -> None:
        set_up(self.lab.far(*place), False)

    def plug(self, place: Place) -> None:
        set_up(self.lab.far(*place), True)

    def restart_switch(self, switch: str) -> None:
        self.lab.chassis[switch].restart()

    def kill_controller(self) -> None:
        assert self._served is not None
        self._served.kill()

    def start_controller(self) -> None:
        self._close()
        assert self._served is not None
        self._served.start()
        self._connection = libnetvirt.open(self._served.client_uri)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            substrate = self._connection.substrate()
            if {s.id for s in substrate.switches} == set(self.lab.chassis) and not substrate.notes:
                return
            time.sleep(0.02)
        raise RuntimeError(f"after 60 s the driver knows {substrate}")

    def leftovers(self) -> list[str]:
        found = []
        for table in ("Logical_Switch", "Logical_Switch_Port", "Logical_Router", "QoS", "ACL"):
            rows = self.lab.nbctl("--bare", "--columns=_uuid", "list", table).split()
            found += [f"northbound {table} {row}" for row in rows]
        for table in ("Port_Binding", "Datapath_Binding", "FDB", "MAC_Binding"):
            rows = self.lab.sbctl("--bare", "--columns=_uuid", "list", table).split()
            found += [f"southbound {table} {row}" for row in rows]
        for name, chassis in self.lab.chassis.items():
            ids = chassis.vsctl("--bare", "--columns=name", "find", "Interface", "external_ids:iface-id!=''")
            found += [f"{name}: iface-id of {port}" for port in ids.split()]
            found += [f"{name}: {flow}" for flow in chassis.flows() if _METADATA.search(flow)]
        return found

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(libnetvirt.NetvirtError):
                connection.close()


def need_ovn() -> None:
    """Skip the test where OVN is not installed; fail in CI."""
    need(why_not())


def rows(lab: OVN) -> list[str]:
    """The rows of switches, routers and their ports in the northbound database."""
    return [
        f"{table} {name}"
        for table in ("Logical_Switch", "Logical_Router", "Logical_Switch_Port")
        for name in lab.nbctl("--bare", "--columns=name", "list", table).split()
    ]
