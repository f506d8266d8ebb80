"""``libnetvirt.mininet``, as its page shows it: with real Mininet and Open vSwitch."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from libnetvirt import ConnectionClosed, InvalidURI
from libnetvirt.mininet import Controller
from tests.support.own_machine import typed

PAGE = (Path(__file__).parents[2] / "docs" / "mininet.md").read_text()
_RUN = re.compile(r"^<!-- run in Mininet[^\n]*-->\n```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Keeps Mininet from changing limits of the whole machine.
_LIMITS = "from mininet.net import Mininet\nMininet.inited = True\n"
_SERVE = """
netvirt serve -c 'openflow:///?listen=127.0.0.1:6653&state=:memory:' --socket {path}.sock > {path}.log 2>&1 &
until netvirt -c openflow+unix://{path}.sock list -q 2> /dev/null; do sleep 0.1; done
"""
_LEFT = "ovs-vsctl list-br; ip -oneline link | grep -v ' lo:' | grep -v ' ovs-'; pgrep --list-full mininet:"


def _example(number: int, more: str = "") -> str:
    return f"{sys.executable} - 2>&1 <<'END'\n{_LIMITS}{_RUN.findall(PAGE)[number]}{more}END"


@pytest.mark.root
@pytest.mark.long
def test_two_networks_of_one_program_are_apart_and_tcp_passes() -> None:
    ((printed, failed), left) = typed([_example(0)], _LEFT)
    (shown,) = re.findall(r"It prints\n\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert (printed, failed) == (shown, 0), printed
    assert left == ""


@pytest.mark.root
@pytest.mark.long
def test_a_served_controller_forwards_and_is_left_as_it_was(tmp_path: Path) -> None:
    socket = str(tmp_path / "mininet")
    example = _example(1).replace("/tmp/mininet.sock", f"{socket}.sock")
    after = f"netvirt -c openflow+unix://{socket}.sock list -q"
    (_, (printed, failed), (networks, _), left) = typed([_SERVE.format(path=socket), example, after], _LEFT)
    assert failed == 0, printed
    assert printed.rstrip().endswith("lost: 0.0 %")
    assert networks == ""
    assert left == ""


@pytest.mark.root
@pytest.mark.long
def test_what_is_missing_is_named_and_everything_is_stopped() -> None:
    script = """
from mininet.net import Mininet
from mininet.node import OVSSwitch
from mininet.topo import LinearTopo
import libnetvirt
from libnetvirt.mininet import Controller

net = Mininet(LinearTopo(k=2, n=1, sopts={"datapath": "user"}), switch=OVSSwitch, controller=None)
lone = Controller(net, switches=["s1"])
try:
    lone.endpoint("h2")
except libnetvirt.EndpointNotFound as error:
    print(error)
given = lone.endpoint("h1", uuid=7, vlan=20)
print(given.uuid, given.place)
start = net.start
net.start = lambda: (start(), net.configLinkStatus("s1", "s2", "down"))
try:
    Controller(net, timeout=4).start()
except libnetvirt.SubstrateError as error:
    print(error)
"""
    text = f"{sys.executable} - 2>&1 <<'END'\n{_LIMITS}{script}END"
    ((printed, failed), left) = typed([text], _LEFT)
    assert failed == 0, printed
    lines = printed.splitlines()
    assert lines[:2] == ["host h2 is attached to no switch of this controller", "7 switch 1 port 1 vlan 20"]
    missing, _, _ = lines[2].removeprefix("after 4 s these switches and links are missing: ").partition(". ")
    assert set(missing.split(", ")) == {"s1-eth2 to s2-eth2", "s2-eth2 to s1-eth2"}
    assert left == ""


def test_where_switches_connect_is_what_the_uri_says() -> None:
    def target(uri: str | None) -> str:
        return Controller(None, uri).target

    assert target("openflow:///?listen=0.0.0.0:7001") == "tcp:127.0.0.1:7001"
    assert target("openflow:///?listen=tcp:192.0.2.1:7001") == "tcp:192.0.2.1:7001"
    assert target("openflow+unix:///run/netvirt.sock") == "tcp:127.0.0.1:6653"
    assert target(None).startswith("tcp:127.0.0.1:")
    assert target(None) != "tcp:127.0.0.1:6653"
    with pytest.raises(InvalidURI, match="needs target="):
        target("openflow:///?listen=ssl:0.0.0.0:6653")
    with pytest.raises(ConnectionClosed, match="not started"):
        _ = Controller(None).connection
