"""Controllers that take turns on real switches, the cluster with their state, and what can go wrong."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from pathlib import Path

import libnetvirt
from libnetvirt.errors import NetvirtError, NotLeader
from tests.support.control_relay import ControlRelay
from tests.support.lab.fresh_controller import differences
from tests.support.netvirt_server import Served
from tests.support.openflow_harness import OpenFlow
from tests.support.state_cluster import StateCluster
from tests.support.unix_proxy import Proxy


class Turn(Served):
    """One controller. Its switches and the members of the cluster are behind relays of its own."""

    def __init__(self, cluster: StateCluster, options: str = "") -> None:
        super().__init__()
        paths = {member: self.directory / f"s{member}.sock" for member in cluster.members}
        self.proxies = [Proxy(path, cluster.socket(member)) for member, path in paths.items()]
        self.relay = ControlRelay(self.port)
        state = "ovsdb:" + ",".join(f"unix:{path}" for path in paths.values())
        self.uri = f"openflow:///?listen=127.0.0.1:{self.port}&state={state}&advertise={self.socket}{options}"
        self._stack = contextlib.ExitStack()
        for proxy in self.proxies:
            self._stack.enter_context(proxy)
        self._stack.enter_context(self.relay)

    @property
    def target(self) -> str:
        return self.relay.target

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def cut_off_store(self, *, cut: bool = True, silent: bool = False) -> None:
        for proxy in self.proxies:
            proxy.silent, proxy.cut = cut and silent, cut and not silent

    def role(self) -> str:
        """``leader``, ``standby``, or why neither is known."""
        try:
            with libnetvirt.open(self.client_uri) as connection:
                connection.lookup("nobody")
        except NotLeader:
            return "standby"
        except libnetvirt.NetworkNotFound:
            return "leader"
        except NetvirtError as error:
            return str(error)
        return "leader"

    def stop(self) -> None:
        super().stop()
        self._stack.close()


class TakingTurns(OpenFlow):
    """A ring of three switches, and two controllers."""

    def __init__(self, options: str = "") -> None:
        super().__init__(3, [(1, 2), (2, 3), (3, 1)])
        self.served.stop()
        self.cluster = StateCluster()
        self.controllers = [Turn(self.cluster, options) for _ in range(2)]

    def start(self) -> None:
        try:
            self.cluster.__enter__()
            for controller in self.controllers:
                controller.start()
            self.lab.start()
            self.lab.control_by([controller.target for controller in self.controllers])
            self._connection = libnetvirt.open(self.uri)
            self.await_quiet()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._close()
        self.lab.stop()
        for controller in self.controllers:
            controller.stop()
        self.cluster.__exit__()

    @property
    def uri(self) -> str:
        """What clients open: both."""
        return "openflow+unix://" + ",".join(str(one.socket) for one in self.controllers)

    def turns(self) -> tuple[Turn, Turn]:
        """The one that leads, and the standby. Raises RuntimeError if there are none."""
        one, other = self.controllers
        roles = one.role(), other.role()
        if roles == ("leader", "standby"):
            return one, other
        if roles == ("standby", "leader"):
            return other, one
        raise RuntimeError(f"the controllers are {roles}")

    def await_quiet(self, seconds: float = 90.0) -> None:
        """Wait until one leads, the other stands by, and all switches are connected to both."""
        deadline = time.monotonic() + seconds
        while missing := self._missing():
            if time.monotonic() > deadline:
                logs = "\n".join(one.log.read_text()[-3000:] for one in self.controllers)
                raise RuntimeError(f"not within {seconds} s: {missing}\n{logs}")
            time.sleep(0.02)

    def _missing(self) -> str:
        try:
            self.turns()
        except RuntimeError as error:
            return str(error)
        rows = self.lab.ovs.vsctl("--bare", "--columns=role,is_connected", "list", "Controller").split()
        if sorted(rows) != sorted(("master", "true", "slave", "true") * len(self.lab.switches)):
            return f"the switches' controllers are {rows}"
        links = self.connection.substrate().links
        if sum(link.up and bool(link.mtu) for link in links) != 2 * len(self.links()):
            return f"the links are {links}"
        return ""

    def differences(self) -> list[str]:
        with tempfile.TemporaryDirectory(prefix="netvirt-turns-") as directory:
            state = Path(directory) / "state.db"
            state.write_bytes(self.connection.backup())
            return differences(self.lab, state)

    def stored(self) -> list[str]:
        """The uuids of all networks in the cluster, as its rows say."""
        return sorted(str(row["uuid"]) for row in self.cluster.rows("Network"))
