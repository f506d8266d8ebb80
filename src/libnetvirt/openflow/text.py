"""Rules as text, in the syntax of ``ovs-ofctl``, which can parse it.

Fields, actions and instructions that ovs-ofctl has no syntax for are written as ``oxm_…=…``,
``experimenter(…)`` and ``unknown(…)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from typing import Any, Final

from libnetvirt.openflow import actions as act
from libnetvirt.openflow import instructions as ins
from libnetvirt.openflow import nicira
from libnetvirt.openflow.constants import CONTROLLER_NO_BUFFER, VLAN_PRESENT, FlowModFlags, Port
from libnetvirt.openflow.match import Match
from libnetvirt.openflow.modify import FlowMod
from libnetvirt.openflow.multipart import FlowStatsEntry
from libnetvirt.openflow.oxm import FIELDS

_FULL64: Final = 0xFFFF_FFFF_FFFF_FFFF


def mac_text(value: int) -> str:
    """Format a 48-bit int as ``00:11:22:33:44:55``."""
    return value.to_bytes(6, "big").hex(":")


def _address_writer(address: Callable[[int], Any], bits: int) -> Callable[[int, int | None], str]:
    full = (1 << bits) - 1

    def text(value: int, mask: int | None) -> str:
        if mask is None:
            return str(address(value))
        length = mask.bit_count()
        if mask == full ^ (full >> length):
            return f"{address(value)}/{length}"
        return f"{address(value)}/{address(mask)}"

    return text


def _mac(value: int, mask: int | None) -> str:
    return mac_text(value) if mask is None else f"{mac_text(value)}/{mac_text(mask)}"


def _hex(value: int, mask: int | None) -> str:
    return f"{value:#x}" if mask is None else f"{value:#x}/{mask:#x}"


def _hex16(value: int, mask: int | None) -> str:
    return f"0x{value:04x}" if mask is None else f"0x{value:04x}/0x{mask:04x}"


def _decimal(value: int, mask: int | None) -> str:
    return str(value) if mask is None else f"{value:#x}/{mask:#x}"


_IPV4: Final = _address_writer(IPv4Address, 32)
_IPV6: Final = _address_writer(IPv6Address, 128)

_Writer = Callable[[int, int | None], str]

# The field's name in ovs-ofctl, and the function that formats its value.
_OVS_FIELDS: Final[Mapping[str, tuple[str, _Writer]]] = MappingProxyType(
    {
        "in_phy_port": ("in_phy_port", _decimal),
        "metadata": ("metadata", _hex),
        "eth_dst": ("dl_dst", _mac),
        "eth_src": ("dl_src", _mac),
        "eth_type": ("dl_type", _hex16),
        "vlan_pcp": ("dl_vlan_pcp", _decimal),
        "ip_dscp": ("ip_dscp", _decimal),
        "ip_ecn": ("nw_ecn", _decimal),
        "ip_proto": ("nw_proto", _decimal),
        "ipv4_src": ("nw_src", _IPV4),
        "ipv4_dst": ("nw_dst", _IPV4),
        "icmpv4_type": ("icmp_type", _decimal),
        "icmpv4_code": ("icmp_code", _decimal),
        "arp_spa": ("arp_spa", _IPV4),
        "arp_tpa": ("arp_tpa", _IPV4),
        "arp_sha": ("arp_sha", _mac),
        "arp_tha": ("arp_tha", _mac),
        "ipv6_src": ("ipv6_src", _IPV6),
        "ipv6_dst": ("ipv6_dst", _IPV6),
        "ipv6_flabel": ("ipv6_label", _hex),
        "ipv6_nd_target": ("nd_target", _IPV6),
        "ipv6_nd_sll": ("nd_sll", _mac),
        "ipv6_nd_tll": ("nd_tll", _mac),
        "tunnel_id": ("tun_id", _hex),
    }
)

# In set_field, ovs-ofctl expects the names of the specification for these fields.
_SET_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "eth_dst": "eth_dst",
        "eth_src": "eth_src",
        "eth_type": "eth_type",
        "vlan_pcp": "vlan_pcp",
        "ipv4_src": "ip_src",
        "ipv4_dst": "ip_dst",
    }
)


def port_text(port: int) -> str:
    """Format a port: its number, or the name of a reserved port."""
    if port <= Port.MAX:
        return str(port)
    try:
        return Port(port).name
    except ValueError:
        return str(port)


def _field_text(name: str, value: int, mask: int | None) -> str:
    if name == "in_port":
        return f"in_port={port_text(value)}"
    if name == "vlan_vid":
        if mask is None and value & VLAN_PRESENT:
            return f"dl_vlan={value & 0xFFF}"
        return f"vlan_tci={_hex16(value, 0x1FFF if mask is None else mask)}"
    name_in_ovs, writer = _OVS_FIELDS.get(name, (name, _decimal if name in FIELDS else _hex))
    return f"{name_in_ovs}={writer(value, mask)}"


def match_text(match: Match) -> str:
    """Format the fields of a match, separated by commas; empty if it matches every packet."""
    return ",".join([_field_text(*field) for field in match.fields])


def _set_field_text(action: act.SetField) -> str:
    name, value = action.name, action.value
    if name == "vlan_vid":
        return f"set_field:{value}->vlan_vid"
    name_in_ovs, writer = _OVS_FIELDS.get(name, (name, _decimal if name in FIELDS else _hex))
    return f"set_field:{writer(value, None)}->{_SET_NAMES.get(name, name_in_ovs)}"


def _output_text(action: act.Output) -> str:
    if action.port == Port.CONTROLLER:
        return (
            f"CONTROLLER:{action.max_len}" if action.max_len != CONTROLLER_NO_BUFFER else "CONTROLLER:65535"
        )
    if action.port in (Port.IN_PORT, Port.LOCAL) or action.port > Port.MAX:
        return port_text(action.port)
    return f"output:{action.port}"


def _experimenter_text(action: act.Experimenter) -> str:
    known = nicira.action_text(action, lambda wire: actions_text(act.ACTIONS.parse(wire, 0, len(wire))[0]))
    return known or f"experimenter({action.experimenter:#x},{action.payload.hex()})"


_ACTION_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = MappingProxyType(
    {
        act.Output: _output_text,
        act.CopyTtlOut: lambda _: "copy_ttl_out",
        act.CopyTtlIn: lambda _: "copy_ttl_in",
        act.SetMplsTtl: lambda action: f"set_mpls_ttl({action.ttl})",
        act.DecMplsTtl: lambda _: "dec_mpls_ttl",
        act.PushVlan: lambda action: f"push_vlan:0x{action.ethertype:04x}",
        act.PopVlan: lambda _: "pop_vlan",
        act.PushMpls: lambda action: f"push_mpls:0x{action.ethertype:04x}",
        act.PopMpls: lambda action: f"pop_mpls:0x{action.ethertype:04x}",
        act.SetQueue: lambda action: f"set_queue:{action.queue_id}",
        act.Group: lambda action: f"group:{action.group_id}",
        act.SetNwTtl: lambda action: f"mod_nw_ttl:{action.ttl}",
        act.DecNwTtl: lambda _: "dec_ttl",
        act.PushPbb: lambda action: f"push_pbb:0x{action.ethertype:04x}",
        act.PopPbb: lambda _: "pop_pbb",
        act.SetField: _set_field_text,
        act.Experimenter: _experimenter_text,
        act.UnknownAction: lambda action: f"unknown({action.type},{action.body.hex()})",
    }
)


def actions_text(actions: Sequence[act.Action]) -> str:
    """Format actions, separated by commas; ``drop`` if there are none."""
    return ",".join([_ACTION_WRITERS[type(action)](action) for action in actions]) or "drop"


def _instruction_text(instruction: ins.Instruction) -> str:
    match instruction:
        case ins.ApplyActions(actions):
            return actions_text(actions) if actions else ""
        case ins.WriteActions(actions):
            return f"write_actions({actions_text(actions) if actions else ''})"
        case ins.GotoTable(table_id):
            return f"goto_table:{table_id}"
        case ins.WriteMetadata(metadata, mask):
            return f"write_metadata:{_hex(metadata, None if mask == _FULL64 else mask)}"
        case ins.ClearActions():
            return "clear_actions"
        case ins.Meter(meter_id):
            return f"meter:{meter_id}"
        case ins.ExperimenterInstruction(experimenter, payload):
            return f"experimenter({experimenter:#x},{payload.hex()})"
        case ins.UnknownInstruction(kind, body):
            return f"unknown({kind},{body.hex()})"


def _execution_order(instruction: ins.Instruction) -> int:
    """Sort key for the order in which a switch executes instructions (section 5.9).

    ovs-ofctl accepts no other order.
    """
    ranks = (
        ins.Meter,
        ins.ApplyActions,
        ins.ClearActions,
        ins.WriteActions,
        ins.WriteMetadata,
        ins.GotoTable,
    )
    for rank, kind in enumerate(ranks):
        if isinstance(instruction, kind):
            return rank
    return len(ranks)


def instructions_text(instructions: Sequence[ins.Instruction]) -> str:
    """Format instructions in the order of their execution; ``drop`` if there is nothing to do."""
    texts = [_instruction_text(each) for each in sorted(instructions, key=_execution_order)]
    return ",".join([text for text in texts if text]) or "drop"


_FLAG_NAMES: Final = (
    (FlowModFlags.SEND_FLOW_REM, "send_flow_rem"),
    (FlowModFlags.CHECK_OVERLAP, "check_overlap"),
    (FlowModFlags.RESET_COUNTS, "reset_counts"),
    (FlowModFlags.NO_PKT_COUNTS, "no_packet_counts"),
    (FlowModFlags.NO_BYT_COUNTS, "no_byte_counts"),
)


def format_flow(rule: FlowMod | FlowStatsEntry) -> str:
    """Format a rule on one line, as ``cookie=0x7, table=0, priority=100,in_port=3 actions=output:4``.

    The text of a `FlowStatsEntry` has its age in seconds and its counters too, so ovs-ofctl cannot parse it.
    """
    head = [f"cookie={rule.cookie:#x}"]
    if isinstance(rule, FlowMod):
        if rule.cookie_mask:
            head[0] += f"/{rule.cookie_mask:#x}"
    else:
        head.append(f"duration={rule.duration_sec + rule.duration_nsec / 1e9:.3f}s")
    head.append(f"table={rule.table_id}")
    if isinstance(rule, FlowStatsEntry):
        head.append(f"n_packets={rule.packet_count}")
        head.append(f"n_bytes={rule.byte_count}")
    if rule.idle_timeout:
        head.append(f"idle_timeout={rule.idle_timeout}")
    if rule.hard_timeout:
        head.append(f"hard_timeout={rule.hard_timeout}")
    head.extend(name for flag, name in _FLAG_NAMES if rule.flags & flag)
    fields = match_text(rule.match)
    head.append(f"priority={rule.priority}" + (f",{fields}" if fields else ""))
    return f"{', '.join(head)} actions={instructions_text(rule.instructions)}"
