"""Changes of one endpoint take the same time in small and in large networks."""

from __future__ import annotations

import copy

import pytest

from libnetvirt import Endpoint, VirtualNetwork

THREE = VirtualNetwork.model_validate(
    {"uuid": 1, "endpoints": [{"uuid": n, "switch": "1", "port": str(n)} for n in (11, 12, 13)]}
)


def test_a_step_records_its_change_and_its_origin() -> None:
    added = THREE.with_endpoint(Endpoint(uuid=14, switch="2", port="1"))
    assert added.step_from(THREE) == ("14",)
    assert THREE.touched(added) == added.touched(THREE) == ("14",)
    assert THREE.step_from(added) is None
    gone = added.without_endpoint("12")
    assert gone.step_from(added) == ("12",)
    assert gone.step_from(THREE) is None
    assert set(THREE.touched(gone)) == {"12", "14"}


def test_descriptions_without_a_step_are_compared() -> None:
    same = THREE.changed()
    assert same.step_from(THREE) is None
    assert not THREE.touched(same)


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_is_not_mistaken_for_its_original(deep: bool) -> None:
    added = THREE.with_endpoint(Endpoint(uuid=14, switch="2", port="1"))
    assert set(added.by_uuid) == {"11", "12", "13", "14"}
    other = added.model_copy(update={"endpoints": THREE.endpoints[:1]}, deep=deep)
    assert set(other.by_uuid) == {"11"}
    assert other.step_from(THREE) is None
    assert set(THREE.touched(other)) == {"12", "13"}
    assert set(other.without_endpoint("11").touched(added)) == {"11", "12", "13", "14"}
    assert copy.copy(added) == added == copy.deepcopy(added)
