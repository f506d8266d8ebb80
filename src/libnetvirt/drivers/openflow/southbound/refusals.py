"""The message about a switch that refuses a change, and what the operator can do about it."""

from __future__ import annotations

from collections.abc import Iterable

from libnetvirt import openflow as of
from libnetvirt.controller.intent.switches import switch_text

_DEFAULT = "'netvirt rules' shows what the switch holds; see also the switch's log."
_FULL = "It has no room for more: remove networks or hosts, or raise the limit of its tables."
_REMEDIES = {
    "TABLE_FULL": _FULL,
    "OUT_OF_GROUPS": _FULL,
    "OUT_OF_METERS": "It has no meter left: remove bandwidth limits or constraints there.",
    "BAD_ACTION/": "It does not support an action: networks with mpls labels, and outbound limits, need "
    "Open vSwitch 2.17 or later.",
}


def error_text(error: of.Error | of.ExperimenterError) -> str:
    """The names of an error, such as ``FLOW_MOD_FAILED/TABLE_FULL``."""
    if isinstance(error, of.Error):
        return error.text
    return f"experimenter {error.experimenter:#x} error {error.exp_type}"


def refusal_text(dpid: int, errors: Iterable[str]) -> str:
    """The message of the error RuleRefused: what a switch answered to a change, and a remedy."""
    kinds = ", ".join(dict.fromkeys(errors))
    remedy = next((text for kind, text in _REMEDIES.items() if kind in kinds), _DEFAULT)
    return f"switch {switch_text(dpid)} refused the change ({kinds}); it was undone. {remedy}"
