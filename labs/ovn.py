"""A complete OVN on one machine: the two databases, northd, and chassis with the userspace datapath.

``python -m labs.ovn`` (as root) starts one with three chassis and waits; programs use ``with OVN() as lab``.
It runs in the caller's network namespace, in namespaces of its own and in a temporary directory. All of these
are removed when the process ends.

::

     hosts: veth pairs, whose far ends are in the caller's namespace
       │ │            │ │            │ │
     br-int         br-int         br-int       one Open vSwitch and one ovn-controller each,
       ch1            ch2            ch3        in a network namespace each
       └────────────── br ────────────┘         the underlay, 10.77.0.0/24: Geneve tunnels
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from labs.daemons import Daemon, Namespace, eventually, run

SCHEMAS = {
    "OVN_Northbound": Path("/usr/share/ovn/ovn-nb.ovsschema"),
    "OVN_Southbound": Path("/usr/share/ovn/ovn-sb.ovsschema"),
    "Open_vSwitch": Path("/usr/share/openvswitch/vswitch.ovsschema"),
}
#: Program -> its package in Debian 12.
NEEDED = {
    "ovn-northd": "ovn-central", "ovn-nbctl": "ovn-common", "ovn-controller": "ovn-host",
    "ovs-vswitchd": "openvswitch-switch", "ip": "iproute2", "setpriv": "util-linux", "nsenter": "util-linux",
    "ethtool": "ethtool",
}  # fmt: skip
HOST_MTU, FAR_MTU, UNDERLAY_MTU = 1500, 9000, 9000

_numbers = itertools.count(1)


def why_not() -> str:
    """Why OVN cannot run here; empty if it can."""
    if os.geteuid() != 0:
        return "needs root: network namespaces and raw sockets"
    missing = sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})
    return f"not installed: apt-get install {' '.join(missing)}" if missing else ""


class Cluster:
    """One OVSDB database: a single server, or a Raft cluster of several, each with a unix socket."""

    def __init__(self, directory: Path, database: str, members: int = 1, extra: Iterable[str] = ()) -> None:
        self.database = database
        self._directories = [directory / f"{database}-{n}" for n in range(1, members + 1)]
        self._clustered = members > 1
        self.servers: list[Daemon] = []
        for at in self._directories:
            at.mkdir(parents=True)
            remotes = [f"--remote=punix:{at}/db.sock", *extra]
            self.servers.append(Daemon(at, "ovsdb-server", str(at / "db"), *remotes))

    @property
    def remotes(self) -> str:
        """The addresses of all servers for OVN's programs: ``unix:…,unix:…``."""
        return ",".join(f"unix:{at}/db.sock" for at in self._directories)

    def start(self) -> None:
        schema = str(SCHEMAS[self.database])
        if not self._clustered:
            run("ovsdb-tool", "create", str(self._directories[0] / "db"), schema)
            self.servers[0].start()
            return
        addresses = [f"unix:{at}/raft.sock" for at in self._directories]
        for n, (at, server) in enumerate(zip(self._directories, self.servers, strict=True)):
            if n == 0:
                run("ovsdb-tool", "create-cluster", str(at / "db"), schema, addresses[0])
            else:
                run("ovsdb-tool", "join-cluster", str(at / "db"), self.database, addresses[n], addresses[0])
            server.start()
        for at in self._directories:
            run("ovsdb-client", "--timeout=20", "wait", f"unix:{at}/db.sock", self.database, "connected")

    def leader(self) -> int:
        """The index of the cluster's leader, or -1 if there is none."""
        for n, server in enumerate(self.servers):
            if server.running:
                with contextlib.suppress(RuntimeError):
                    if "Role: leader" in server.ask("cluster/status", self.database):
                        return n
        return -1

    def stop(self) -> None:
        for server in self.servers:
            server.kill()


class Chassis:
    """One chassis: Open vSwitch, ovn-controller, and ports for hosts, in a network namespace."""

    def __init__(
        self, directory: Path, name: str, address: str, southbound: str, peers: Iterable[str]
    ) -> None:
        self.name = name
        self._peers = list(peers)
        self.address = address
        self.directory = directory
        directory.mkdir()
        self.namespace = Namespace()
        inside = self.namespace.inside
        self._southbound = southbound
        self.database = Daemon(
            directory, "ovsdb-server", str(directory / "db"), f"--remote=punix:{directory}/db.sock",
            inside=inside,
        )  # fmt: skip
        self.switch = Daemon(directory, "ovs-vswitchd", self.remote, "--disable-system", inside=inside)
        self.controller = Daemon(directory, "ovn-controller", self.remote, inside=inside)

    @property
    def remote(self) -> str:
        """The address of its Open_vSwitch database."""
        return f"unix:{self.directory}/db.sock"

    def start(self, underlay: str) -> None:
        run("ovsdb-tool", "create", str(self.directory / "db"), str(SCHEMAS["Open_vSwitch"]))
        self.database.start()
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".",
                   f"external_ids:system-id={self.name}", f"external_ids:ovn-remote=\"{self._southbound}\"",
                   "external_ids:ovn-encap-type=geneve", f"external_ids:ovn-encap-ip={self.address}",
                   "external_ids:ovn-bridge-datapath-type=netdev",
                   "external_ids:ovn-openflow-probe-interval=0",
                   "other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1")  # fmt: skip
        self.switch.start()
        self._join(underlay)
        self.controller.start()

    def _join(self, underlay: str) -> None:
        """Connect to the underlay. The address of the tunnels has to be on a bridge of Open vSwitch."""
        link = f"{underlay}-{self.name}"
        mtu = ("mtu", str(UNDERLAY_MTU))
        run("ip", "link", "add", link, *mtu, "type", "veth", "peer", "name", "under0", *mtu,
            "address", _mac(self.address), "netns", str(self.namespace.pid))  # fmt: skip
        run("ip", "link", "set", link, "master", underlay, "up")
        self.namespace.run("ip", "link", "set", "under0", "up")
        # The kernel receives the frames at under0 too, and would answer each ARP request a second time.
        for setting in ("ipv4/conf/under0/rp_filter=1", "ipv4/conf/under0/arp_ignore=1"):
            key, _, value = setting.partition("=")
            self.namespace.run("sh", "-c", f"echo {value} > /proc/sys/net/{key}")
        self.namespace.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        self.namespace.run("ethtool", "-K", "under0", "tx", "off")
        run("ethtool", "-K", link, "tx", "off")
        self.vsctl("add-br", "br-phy", "--", "set", "Bridge", "br-phy", "datapath_type=netdev",
                   "fail-mode=standalone", f'other_config:hwaddr="{_mac(self.address)}"',
                   "--", "add-port", "br-phy", "under0")  # fmt: skip
        self._address()

    def _address(self) -> None:
        """Configure the underlay bridge, which a restart of ovs-vswitchd recreates."""
        self.namespace.run("ip", "address", "replace", f"{self.address}/24", "dev", "br-phy")
        self.namespace.run("ip", "link", "set", "br-phy", "mtu", str(UNDERLAY_MTU), "up")
        self.namespace.run("ethtool", "-K", "br-phy", "tx", "off")
        # Open vSwitch drops tunnelled packets while it resolves the MAC address of their destination.
        for address in self._peers:
            if address != self.address:
                self.switch.ask("tnl/neigh/set", "br-phy", address, _mac(address))

    def vsctl(self, *words: str) -> str:
        return run("ovs-vsctl", f"--db={self.remote}", "--timeout=20", *words)

    def flows(self, bridge: str = "br-int") -> list[str]:
        """The flows of a bridge, one line each."""
        target = f"unix:{self.directory}/{bridge}.mgmt"
        lines = run("ovs-ofctl", "-O", "OpenFlow15", "--no-stats", "dump-flows", target).splitlines()
        return [line.strip() for line in lines if "table=" in line]

    def restart(self) -> None:
        """Restart the switch and ovn-controller, as after a power failure: flows are lost and reinstalled."""
        self.controller.kill()
        self.switch.kill()
        self.switch.start()
        self._address()
        self.controller.start()

    def stop(self) -> None:
        for daemon in (self.controller, self.switch, self.database):
            daemon.kill()
        self.namespace.close()


def _mac(address: str) -> str:
    """The MAC address of a chassis on the underlay, from its IP address."""
    return f"02:00:0a:4d:00:{int(address.rpartition('.')[2]):02x}"


class OVN:
    """Chassis ch1, ch2, …, each with host ports p1, p2, … on its integration bridge.

    ``hosts``: the number of host ports, of each chassis or by the chassis' names. The far ends are in the
    caller's namespace; :meth:`far` names them. ``cluster``: the number of servers of the northbound database.
    ``northbound``, ``southbound``: further options of the database servers. ``names``: other names of the
    chassis.
    """

    def __init__(
        self, chassis: int = 3, hosts: Mapping[str, int] | int = 3, *, cluster: int = 1,
        northbound: Iterable[str] = (), southbound: Iterable[str] = (), names: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.directory = Path(tempfile.mkdtemp(prefix="netvirt-ovn-"))
        self._mark = f"{os.getpid() % 36**3:x}.{next(_numbers):x}"
        self._hosts = hosts
        self.northbound = Cluster(self.directory, "OVN_Northbound", cluster, northbound)
        self.southbound = Cluster(self.directory, "OVN_Southbound", 1, southbound)
        self.northd = Daemon(
            self.directory, "ovn-northd", f"--ovnnb-db={self.northbound.remotes}",
            f"--ovnsb-db={self.southbound.remotes}",
        )  # fmt: skip
        self._names = list(names) or [f"ch{n}" for n in range(1, chassis + 1)]
        self.chassis: dict[str, Chassis] = {}

    @property
    def uri(self) -> str:
        """The connection URI."""
        switches = ",".join(f"{c.name}@{c.remote}" for c in self.chassis.values())
        return f"ovn:///?nb={self.northbound.remotes}&sb={self.southbound.remotes}&vswitch={switches}"

    @property
    def host_ports(self) -> list[tuple[str, str]]:
        """(chassis, port) of every host."""
        counts = self._hosts if isinstance(self._hosts, Mapping) else dict.fromkeys(self._names, self._hosts)
        return [(name, f"p{n}") for name in self._names for n in range(1, counts.get(name, 0) + 1)]

    def far(self, chassis: str, port: str) -> str:
        """The name of the host's interface behind a port, in the caller's namespace."""
        return f"{chassis}{port}.{self._mark}"

    def start(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.northbound.start()
        self.southbound.start()
        run("ovn-nbctl", f"--db={self.northbound.remotes}", "--no-leader-only", "init")
        run("ovn-sbctl", f"--db={self.southbound.remotes}", "--no-leader-only", "init")
        self.northd.start()
        underlay = f"br{self._mark}"
        run("ip", "link", "add", underlay, "type", "bridge", "stp_state", "0", "forward_delay", "0")
        run("ip", "link", "set", underlay, "mtu", str(UNDERLAY_MTU), "up")
        run("ethtool", "-K", underlay, "tx", "off")
        addresses = {name: f"10.77.0.{n}" for n, name in enumerate(self._names, 11)}
        for name, address in addresses.items():
            one = Chassis(self.directory / name, name, address, self.southbound.remotes, addresses.values())
            self.chassis[name] = one
            one.start(underlay)
        for name, port in self.host_ports:
            self.add_host(name, port)
        eventually(self._all_there, "every chassis has registered")

    def _all_there(self) -> bool:
        listed = self.sbctl("--bare", "--columns=name", "list", "Chassis").split()
        return set(listed) == set(self._names)

    def add_host(self, chassis: str, port: str, bridge: str = "br-int") -> None:
        """Connect a host to a chassis."""
        one = self.chassis[chassis]
        far = self.far(chassis, port)
        run("ip", "link", "add", far, "mtu", str(FAR_MTU), "type", "veth", "peer", "name", port, "mtu",
            str(HOST_MTU), "netns", str(one.namespace.pid))  # fmt: skip
        run("ip", "link", "set", far, "up")
        run("ethtool", "-K", far, "tx", "off")
        one.namespace.run("ethtool", "-K", port, "tx", "off")
        one.namespace.run("ip", "link", "set", port, "up")
        one.vsctl("add-port", bridge, port)

    def nbctl(self, *words: str) -> str:
        return run("ovn-nbctl", f"--db={self.northbound.remotes}", "--no-leader-only", "--timeout=20", *words)

    def sbctl(self, *words: str) -> str:
        return run("ovn-sbctl", f"--db={self.southbound.remotes}", "--no-leader-only", "--timeout=20", *words)

    def stop(self) -> None:
        """Stop the daemons; remove the interfaces and the directory."""
        for one in self.chassis.values():
            one.stop()
        self.northd.kill()
        self.southbound.stop()
        self.northbound.stop()
        run("ip", "link", "del", f"br{self._mark}", check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def main() -> int:
    """Start a lab and wait for Ctrl-C."""
    parser = argparse.ArgumentParser(prog="labs.ovn", description=__doc__.partition("\n")[0])
    parser.add_argument("--chassis", type=int, default=3, help="number of chassis (default: %(default)s)")
    parser.add_argument(
        "--hosts", type=int, default=3, help="number of host ports of each chassis (default: %(default)s)"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if reason := why_not():
        sys.stderr.write(f"{reason}\n")
        return 2
    if not options.inside:
        sys.stdout.flush()
        again = [sys.executable, "-m", "labs.ovn", "--inside", *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--net", *again])
    # From here on a signal ends the lab, at whatever it is, and a second one does not interrupt that.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    for number in _ENDS:
        signal.signal(number, _end)
    lab = OVN(options.chassis, options.hosts)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        lab.start()
        print(f"export LIBNETVIRT_URI='{lab.uri}'", flush=True)
        print(
            f"# enter its network namespace: nsenter --net=/proc/{os.getpid()}/ns/net; stop: Ctrl-C",
            flush=True,
        )
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        lab.stop()
    return 0


#: the signals that end the lab
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _end(*_: object) -> None:
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
