"""What every switch does, with or without networks; and who gets copies of a frame."""

from __future__ import annotations

from itertools import combinations

import pytest

from libnetvirt import openflow as of
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.dataplane.entries import Meter
from libnetvirt.controller.engine.controller import Options
from libnetvirt.controller.intent.switches import SwitchView
from libnetvirt.drivers.openflow.capabilities import COMBINATIONS
from libnetvirt.model import Endpoint, Rules
from tests.support.controller_rig import BROADCAST, VLAN, Rig, frame, line, mac, network, places, tagged

ALL_RULES = [Rules.model_validate(c.model_dump()) for c in COMBINATIONS]
EVERY_COMBINATION = pytest.mark.parametrize(
    "rules", ALL_RULES, ids=lambda r: f"{r.encapsulation}-{r.insertion}-{r.timeout}"
)
LLDP = bytes.fromhex("0180c200000e 020000000001 88cc") + bytes(46)


# ---- LLDP ------------------------------------------------------------------------------------------


def test_lldp_frames_from_ports_that_are_no_links_are_metered() -> None:
    rig = Rig()
    line(rig, 2)
    switch = rig.fabric.switches[1]
    number = pipeline.LLDP_METER
    limit = of.DropBand(pipeline.LLDP_RATE, pipeline.LLDP_RATE)
    assert switch.meters[number] == Meter(number, of.MeterFlags.PKTPS | of.MeterFlags.BURST, (limit,))
    switch.metered.clear()
    rig.fabric.inject(1, 3, LLDP)
    assert (switch.metered, len(rig.fabric.up)) == ([number], 1)
    rig.fabric.up.clear()
    switch.exceeded = {number}
    rig.fabric.inject(1, 3, LLDP)
    assert not rig.fabric.up, "a host's storm of LLDP frames stays in the switch"
    # Those of a link are its life, and come from a switch: they pass, however many others there are.
    rig.fabric.inject(1, 2, LLDP)
    assert len(rig.fabric.up) == 1


def test_a_switch_without_meters_sends_lldp_frames_up_all_the_same() -> None:
    rig = Rig()
    view = rig.view

    def without_meters(dpid: int, ports: int) -> SwitchView:
        seen = view(dpid, ports)
        seen.meters = False
        return seen

    rig.view = without_meters  # type: ignore[method-assign]
    rig.switch(1)
    assert rig.fabric.switches[1].meters == {}
    rig.fabric.up.clear()
    rig.fabric.inject(1, 3, LLDP)
    assert len(rig.fabric.up) == 1


@pytest.mark.parametrize("tag", ["8100 0005", "88a8 0005"])
def test_a_tagged_lldp_frame_is_no_frame_of_discovery(tag: str) -> None:
    rig = Rig()
    line(rig, 2)
    for port in (2, 3):
        rig.fabric.inject(1, port, LLDP[:12] + bytes.fromhex(tag) + LLDP[12:])
    assert not rig.fabric.up


# ---- sources that are no host's --------------------------------------------------------------------


@EVERY_COMBINATION
@pytest.mark.parametrize("source", [0, 0x01_00_00_00_00_05, BROADCAST], ids=["zero", "group", "broadcast"])
@pytest.mark.parametrize("destination", [BROADCAST, mac(2)], ids=["to all", "to one"])
def test_a_frame_whose_source_is_no_hosts_address_goes_nowhere(
    rules: Rules, source: int, destination: int
) -> None:
    rig = Rig(Options(rules))
    line(rig, 2)
    ends = [Endpoint(uuid=n, switch=n, port=3) for n in (1, 2)]
    rig.change(None, network(1, *ends))
    for n in (1, 2):
        rig.check(n, 3, frame(BROADCAST, mac(n)))
    rig.fabric.up.clear()
    assert rig.fabric.inject(1, 3, frame(destination, source)) == []
    assert not rig.fabric.up, "nor is the controller bothered"
    assert [host.mac for host in rig.state.locator.hosts("1")] == [mac(1), mac(2)]


# ---- copies ----------------------------------------------------------------------------------------

SHARED = {"plain": {}, "vlan": {"vlan": 5}, "label": {"mpls": 100}, "other label": {"mpls": 200}}


@pytest.mark.parametrize("encapsulation", ["vlan", "mpls"])
@pytest.mark.parametrize("kinds", list(combinations(SHARED, 2)), ids=" and ".join)
def test_of_endpoints_on_one_port_each_gets_the_copies_of_the_other_and_none_of_its_own(
    encapsulation: str, kinds: tuple[str, str]
) -> None:
    rig = Rig(Options(Rules.model_validate({"encapsulation": encapsulation}).over(VLAN)))
    line(rig, 2)
    ends = [
        Endpoint.model_validate({"uuid": n, "switch": 1, "port": 3, **SHARED[kind]})
        for n, kind in enumerate(kinds, 1)
    ]
    ends += [Endpoint(uuid=3, switch=1, port=4, mpls=300), Endpoint(uuid=4, switch=2, port=3)]
    rig.change(None, network(1, *ends))
    for n, sender in enumerate(ends, 1):
        sent = frame(BROADCAST, mac(n))
        out = rig.check(int(sender.switch), int(sender.port), tagged(sender, sent))
        others = [e for e in ends if e is not sender]
        assert out == sorted((int(e.switch), int(e.port), tagged(e, sent)) for e in others)
    assert places(out) == [(1, 3), (1, 3), (1, 4)]
