"""Traffic through real switches loses no frame while netvirtd reloads."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from libnetvirt.conformance.support.stream import Stream, repeated_if_void
from libnetvirt.conformance.support.testbed import Testbed, clean
from tests.support.netvirt_server import NETVIRT, Served
from tests.support.openflow_harness import OpenFlow

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

#: frames a second: programs are started meanwhile
RATE = 500.0
LAB = '[connections.lab]\nuri = "test:///default"\n'


class ServedByNetvirtd(Served):
    """netvirtd with the connection ``core``, and others."""

    def __init__(self, options: str = "") -> None:
        super().__init__(options)
        self.file = self.directory / "netvirtd.toml"
        self.write(LAB)

    @property
    def client_uri(self) -> str:
        return f"{super().client_uri}?connection=core"

    def write(self, others: str, options: str = "") -> None:
        """Write the configuration: ``core`` with these options, and other connections."""
        listener = f'[[listeners]]\npath = "{self.socket}"\n'
        self.file.write_text(f'[connections.core]\nuri = "{self.uri}{options}"\n{others}{listener}')

    def start(self, timeout: float = 20.0, descriptors: int | None = None) -> None:
        assert descriptors is None
        program = str(Path(sys.executable).with_name("netvirtd"))
        address = self.directory / "notify"
        with self.log.open("ab") as log, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            address.unlink(missing_ok=True)
            supervisor.bind(str(address))
            supervisor.settimeout(timeout)
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "--config", str(self.file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(address)},
            )  # fmt: skip
            try:
                while b"READY=1" not in (said := supervisor.recv(4096)):
                    assert b"STOPPING" not in said, said
            except TimeoutError:
                self.kill()
                raise RuntimeError(f"netvirtd did not start: {self.log.read_text()[-2000:]}") from None

    def reload(self, status: int = 0) -> str:
        """Run netvirt reload. What it says."""
        done = subprocess.run(
            [NETVIRT, "reload", "-c", self.client_uri],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def harness(private_namespace: None) -> Iterator[OpenFlow]:  # noqa: ARG001
    harness = OpenFlow(3, [(1, 2), (2, 3), (3, 1)], 2)
    harness.served.stop()
    harness.served = ServedByNetvirtd("&lldp-interval=0.5")
    with harness:
        yield harness


@pytest.fixture
def served(harness: OpenFlow) -> ServedByNetvirtd:
    assert isinstance(harness.served, ServedByNetvirtd)
    return harness.served


@pytest.fixture
def testbed(harness: OpenFlow) -> Iterator[Testbed]:
    testbed = Testbed(harness, None)
    harness.flush_caches()
    yield testbed
    assert list(clean(testbed)) == []
    testbed.eventually(harness.differences, "the switches hold what they should")


def _begin(testbed: Testbed, harness: OpenFlow, served: ServedByNetvirtd) -> None:
    """Bring the configuration to what it was at first, also when a test is repeated."""
    served.write(LAB)
    if "core" in served.reload():
        harness.lab.reconnect()
    testbed.eventually(
        lambda: [] if len(_addresses(harness)) == 3 else ["not yet"], "all switches are connected", 20
    )


def _addresses(harness: OpenFlow) -> list[str]:
    """From where the switches have connected: a switch that connects again has another port."""
    return sorted(s.address for s in harness.connection.substrate().switches if s.connected)


@repeated_if_void
def test_a_reload_touches_no_traffic(testbed: Testbed, harness: OpenFlow, served: ServedByNetvirtd) -> None:
    _, (near, far, *_) = testbed.create_active(*testbed.places(3))
    _begin(testbed, harness, served)
    before = _addresses(harness)
    with Stream(testbed, near, far, rate=RATE) as stream:
        served.write(LAB.replace("lab", "other") + LAB.replace("lab", "third"))
        assert served.reload() == "connection lab is now called other\nconnection third opened\n"
        served.write("")
        assert served.reload() == "connection other closed\nconnection third closed\n"
        served.write('[log]\nlevel = "loud"\n')
        assert re.search(r"netvirtd.toml:4: log.level: 'loud' is not known", served.reload(status=3))
        # Found out only when it is opened: the port is that of core.
        twin = f"openflow:///?listen=127.0.0.1:{served.port}&state=:memory:"
        served.write(f'[connections.twin]\nuri = "{twin}"\n')
        assert "connection twin: " in served.reload(status=8)
        assert _addresses(harness) == before
    stream.check_exactly_once()


@repeated_if_void
def test_switches_forward_while_their_own_connection_is_opened_again(
    testbed: Testbed, harness: OpenFlow, served: ServedByNetvirtd
) -> None:
    _begin(testbed, harness, served)
    network, (near, far, *_) = testbed.create_active(*testbed.places(3))
    with Stream(testbed, near, far, rate=RATE) as stream:
        served.write(LAB, options="&hold=20")
        assert served.reload() == "connection core opened again\n"
        harness.lab.reconnect()
        testbed.eventually(
            lambda: (
                []
                if (state := harness.connection.lookup(network.uuid).state().state) == "active"
                else [state]
            ),
            "the network is active again",
            20,
        )
    stream.check_exactly_once()
