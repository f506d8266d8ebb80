"""The table of protocols whose frames pass: what the suite sends is what the page promises."""

from __future__ import annotations

import re
from pathlib import Path

from libnetvirt.conformance.support.link_protocols import LINK_PROTOCOLS, LinkProtocol

PAGE = Path(__file__).resolve().parents[3] / "docs" / "description.md"


def _row(protocol: LinkProtocol) -> tuple[str, str, str]:
    kind = f"LLC {protocol.llc[:3].hex()}" if protocol.ethertype is None else f"0x{protocol.ethertype:04x}"
    return protocol.name, protocol.destination, kind


def test_the_page_lists_the_protocols_whose_frames_the_suite_sends() -> None:
    rows = re.findall(r"^\| (.*) \| `([0-9a-f:]{17})` \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [_row(protocol) for protocol in LINK_PROTOCOLS]


def test_a_frame_has_an_ethertype_or_its_length() -> None:
    for protocol in LINK_PROTOCOLS:
        frame = protocol.frame("02:00:00:00:00:01")
        kind = int.from_bytes(frame[12:14])
        assert len(frame) == 60
        assert kind == (46 if protocol.ethertype is None else protocol.ethertype)
        assert frame[14:].startswith(protocol.llc)
