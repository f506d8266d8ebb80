"""libnetvirt in a Mininet network: a controller for its switches, and endpoints by the names of its hosts.

::

    from mininet.net import Mininet
    from mininet.node import OVSSwitch
    from mininet.topo import LinearTopo

    import libnetvirt.mininet

    net = Mininet(LinearTopo(k=2, n=2), switch=OVSSwitch, controller=None)
    with libnetvirt.mininet.Controller(net) as controller:
        ends = [controller.endpoint("h1s1"), controller.endpoint("h1s2")]
        controller.connection.create(libnetvirt.VirtualNetwork(name="blue", endpoints=ends))

Mininet itself is not imported: the caller has it, and passes a network. All methods block.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, Unpack

import libnetvirt
from libnetvirt.errors import EndpointNotFound, InvalidURI, SubstrateError
from libnetvirt.model import Endpoint, EndpointChanges
from libnetvirt.ovsdb import preparation
from libnetvirt.ovsdb.bridges import Wanted
from libnetvirt.ovsdb.remotes import Remote
from libnetvirt.uri import URI

__all__ = ["Controller"]

#: room for the labels of tunnels beside the 1500 bytes of hosts
_LINK_MTU = 2000
_LOCAL = "tcp:127.0.0.1:6653"
_POLL = 0.1
#: seconds for a command of Open vSwitch
_COMMAND_TIMEOUT = 20.0


class Controller:
    """Starts a Mininet network with libnetvirt as the controller of its switches, and stops it.

    ``net``: a ``mininet.net.Mininet`` that is not started, made with ``controller=None`` and switches of
    class ``OVSSwitch``. ``uri``: the connection URI, by default that of an ``openflow`` driver in this
    process that keeps nothing; that of a server, such as ``openflow+unix:///run/netvirt.sock``, if one is to
    be used. ``target``: where switches find the controller, by default the ``listen`` of the URI, or
    ``tcp:127.0.0.1:6653``. ``switches``: the names of those to be controlled, by default all. ``link_mtu``:
    the MTU of links between them. ``timeout``: seconds to wait for switches and links.
    """

    def __init__(
        self,
        net: Any,
        uri: str | None = None,
        *,
        target: str | None = None,
        switches: Iterable[str] | None = None,
        link_mtu: int = _LINK_MTU,
        timeout: float = 60.0,
    ) -> None:
        self.net = net
        self.uri = uri or f"openflow:///?listen=127.0.0.1:{_free_port()}&state=:memory:"
        self.target = target or _target(self.uri)
        self._names = None if switches is None else frozenset(switches)
        self._link_mtu = link_mtu
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._connection: libnetvirt.Connection | None = None

    @property
    def connection(self) -> libnetvirt.Connection:
        """The connection to the driver. Raises ConnectionClosed while the controller does not run."""
        if self._connection is None:
            raise libnetvirt.ConnectionClosed("the controller is not started: use it in a 'with' block")
        return self._connection

    def endpoint(
        self,
        host: Any,
        *,
        uuid: str | int | None = None,
        interface: str = "",
        **fields: Unpack[EndpointChanges],
    ) -> Endpoint:
        """The endpoint where a host is attached. Raises EndpointNotFound if that is at no switch of ours.

        ``host``: its name, or the node. ``uuid``: by default, a number that this method has not returned
        before. ``interface``: the host's interface if it has several, by default the first one. ``fields``:
        further fields of the endpoint, such as ``vlan``.
        """
        node = self.net[host] if isinstance(host, str) else host
        for intf in node.intfList():
            if intf.name == "lo" or intf.link is None or (interface and intf.name != interface):
                continue
            far = intf.link.intf2 if intf.link.intf1 is intf else intf.link.intf1
            if far.node in self._switches:
                place = {"switch": _dpid(far.node), "port": far.node.ports[far]}
                number = next(self._numbers) if uuid is None else uuid
                return Endpoint.model_validate({"uuid": number, **place, **fields})
        what = f"interface {interface} of host {node.name}" if interface else f"host {node.name}"
        raise EndpointNotFound(f"{what} is attached to no switch of this controller")

    def start(self) -> Self:
        """Start the network and the controller. Returns when all switches are connected and all links found.

        Links between switches get an MTU with room for the labels of tunnels. Hosts compute checksums, which
        TCP needs where Open vSwitch forwards in user space. Raises SubstrateError, ConnectionFailed; then
        both are stopped.
        """
        try:
            # Open vSwitch reads it when it makes its first bridge.
            _run_here("ovs-vsctl", "set", "Open_vSwitch", ".", "other_config:vlan-limit=0")
            self.net.start()
            self._connection = libnetvirt.open(self.uri)
            for host in self.net.hosts:
                for intf in host.intfList():
                    if intf.name != "lo":
                        _run(host, f"ethtool -K {intf.name} tx off")
            inner = self._links()
            for end in itertools.chain.from_iterable(inner):
                _run(end.node, f"ip link set {end.name} mtu {self._link_mtu}")
            for switch in self._switches:
                self._prepare(switch, [end.name for link in inner for end in link if end.node is switch])
            self._wait(inner)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Close the connection and stop the network. May be called twice.

        Networks that a server has created stay there, until they are removed.
        """
        connection, self._connection = self._connection, None
        net, self.net = self.net, _Stopped()
        try:
            if connection is not None:
                connection.close()
        finally:
            net.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _switches(self) -> list[Any]:
        return [s for s in self.net.switches if self._names is None or s.name in self._names]

    def _links(self) -> list[tuple[Any, Any]]:
        """The two ends of each link between our switches."""
        ours = self._switches
        ends = [(link.intf1, link.intf2) for link in self.net.links]
        return [(a, b) for a, b in ends if a.node in ours and b.node in ours]

    def _prepare(self, switch: Any, links: list[str]) -> None:
        wanted = Wanted(self.target, int(switch.dpid, 16), tuple(links), self._link_mtu)
        (done,) = preparation.prepare(Remote.local(), [switch.name], wanted)
        if done.left:
            texts = "; ".join(f"{fault.text} ({fault.remedy})" for fault in done.left)
            raise SubstrateError(f"switch {switch.name} is not ready: {texts}")

    def _wait(self, links: list[tuple[Any, Any]]) -> None:
        """Wait until the switches are connected and both directions of the links are up."""
        switches = {_dpid(switch): switch.name for switch in self._switches}
        ways = {
            tuple((_dpid(end.node), str(end.node.ports[end])) for end in way): " to ".join(
                e.name for e in way
            )
            for a, b in links
            for way in ((a, b), (b, a))
        }
        end = time.monotonic() + self._timeout
        while True:
            seen = self.connection.substrate()
            connected = {s.id for s in seen.switches if s.connected}
            up = {
                ((k.source, k.source_port), (k.destination, k.destination_port)) for k in seen.links if k.up
            }
            missing = [name for dpid, name in switches.items() if dpid not in connected]
            missing += [name for way, name in ways.items() if way not in up]
            if not missing:
                return
            if time.monotonic() >= end:
                notes = "; ".join(
                    (*seen.notes, *(f"{s.id}: {note}" for s in seen.switches for note in s.notes))
                )
                listed = ", ".join(missing[:10])
                raise SubstrateError(
                    f"after {self._timeout:g} s these switches and links are missing: {listed}"
                    + (f". Notes: {notes}" if notes else "")
                )
            time.sleep(_POLL)


class _Stopped:
    """In place of a network that is stopped already."""

    switches: tuple[Any, ...] = ()
    links: tuple[Any, ...] = ()

    def stop(self) -> None:
        """Nothing."""


def _dpid(switch: Any) -> str:
    """The id that libnetvirt gives a switch."""
    return str(int(switch.dpid, 16))


def _target(uri: str) -> str:
    """Where switches find the controller with this URI. Raises InvalidURI if that is not one address."""
    parsed = URI.parse(uri)
    listen = "" if parsed.transport else parsed.options.get("listen", "")
    if not listen:
        return _LOCAL
    kind, _, place = listen.rpartition("tcp:")
    if kind or "," in listen or listen.startswith(("ssl:", "unix:")):
        raise InvalidURI(f"the switches of Mininet connect to one tcp address: listen={listen} needs target=")
    return f"tcp:{place}".replace("tcp:0.0.0.0:", "tcp:127.0.0.1:")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _run_here(*command: str) -> None:
    """Run a command. Raises SubstrateError if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SubstrateError(
            f"{' '.join(command)}: {error}. Is Open vSwitch installed and running?"
        ) from None
    if done.returncode:
        raise SubstrateError(f"{' '.join(command)}: {done.stderr.strip()}")


def _run(node: Any, command: str) -> None:
    """Run a command in a node's namespace. Raises SubstrateError if it fails."""
    out, err, status = node.pexec(command)
    if status:
        raise SubstrateError(f"{node.name}: {command}: {(err or out).strip() or status}. Is it installed?")
