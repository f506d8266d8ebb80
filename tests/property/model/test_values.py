"""Laws of the model's values."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libnetvirt.errors import InvalidDescription
from libnetvirt.model import Bandwidth, Duration, VirtualNetwork


@given(number=st.integers(1, 2**63 - 1))
@settings(deadline=None)
def test_a_quantity_is_read_as_it_is_written(number: int) -> None:
    assert Bandwidth.parse(str(Bandwidth(number))) == number
    assert Duration.parse(str(Duration(number))) == number


_ADDRESSES = st.builds(
    lambda host, length: f"10.0.{host // 256}.{host % 256}/{length}",
    st.integers(1, 65534),
    st.integers(14, 32),
)


@given(addresses=st.lists(_ADDRESSES, min_size=1, max_size=8))
@settings(deadline=None, max_examples=300)
def test_overlaps_are_found_exactly_where_there_are_any(addresses: list[str]) -> None:
    ends = [{"uuid": i + 1, "switch": 1, "port": i, "address": a} for i, a in enumerate(addresses)]
    nets = [ip_interface(a).network for a in addresses]
    overlapping = any(a.overlaps(b) for i, a in enumerate(nets) for b in nets[:i])
    _, found = VirtualNetwork.examined({"forwarding": "L3", "endpoints": ends})
    # An address that is no gateway's is passed over, so its overlaps need not be found.
    if not any("first or last" in text for _, text in found):
        assert any("overlaps" in text for _, text in found) == overlapping


@given(
    value=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda v: st.lists(v) | st.dictionaries(st.text(max_size=5), v),
    )
)
@settings(deadline=None)
def test_any_value_gives_a_network_or_an_error_that_lists_faults(value: object) -> None:
    network, faults = VirtualNetwork.examined(value)
    assert (network is None) == bool(faults)
    if faults:
        with pytest.raises(InvalidDescription) as caught:
            VirtualNetwork.model_validate(value)
        assert all(f.path.startswith("network") for f in caught.value.faults)
