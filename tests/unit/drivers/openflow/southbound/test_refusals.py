"""What users are told when a switch refuses a change."""

from __future__ import annotations

import pytest

from libnetvirt import openflow as of
from libnetvirt.drivers.openflow.southbound.refusals import error_text, refusal_text

FULL = "It has no room for more: remove networks or hosts"


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (of.Error(of.ErrorType.FLOW_MOD_FAILED, 1), "FLOW_MOD_FAILED/TABLE_FULL", FULL),
        (of.Error(of.ErrorType.GROUP_MOD_FAILED, 3), "GROUP_MOD_FAILED/OUT_OF_GROUPS", FULL),
        (of.Error(of.ErrorType.METER_MOD_FAILED, 10), "METER_MOD_FAILED/OUT_OF_METERS", "has no meter left"),
        (of.Error(of.ErrorType.BAD_ACTION, 0), "BAD_ACTION/BAD_TYPE", "Open vSwitch 2.17 or later"),
        (of.Error(of.ErrorType.BAD_MATCH, 0), "BAD_MATCH/BAD_TYPE", "'netvirt rules' shows what"),
        (of.ExperimenterError(9, 0x2320), "experimenter 0x2320 error 9", "'netvirt rules' shows what"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_switch_the_error_and_a_remedy(
    error: of.Error | of.ExperimenterError, text: str, remedy: str
) -> None:
    assert error_text(error) == text
    told = refusal_text(7, [text, text])
    assert told.startswith(f"switch 7 refused the change ({text}); it was undone. ")
    assert remedy in told
