"""What random operations must make, and for which reasons they may be refused."""

from __future__ import annotations

import pytest

from libnetvirt import VirtualNetwork
from libnetvirt.errors import EndpointClaimed, InvalidDescription, NetvirtError, NoPath, NotFound, RuleRefused
from tests.support.random_operations import Networks, Operation, Outcomes, result, results
from tests.support.tally import Tally


def network(name: str, *ports: int) -> VirtualNetwork:
    ends = [{"uuid": n, "switch": 1, "port": port} for n, port in enumerate(ports, 1)]
    return VirtualNetwork.model_validate({"name": name, "uuid": f"{ord(name)}", "endpoints": ends})


def becomes(after: VirtualNetwork) -> Operation:
    return Operation(lambda: None, lambda there: {**there, after.uuid: after})


def removal(gone: VirtualNetwork) -> Operation:
    def effect(there: Networks) -> Networks:
        left = dict(there)
        del left[gone.uuid]
        return left

    return Operation(lambda: None, effect)


A, B = network("a", 1, 2), network("b", 3)
BEFORE: Networks = {A.uuid: A, B.uuid: B}


def test_the_result_of_an_operation_is_known_beforehand() -> None:
    more = network("b", 3, 4)
    assert result(becomes(more), BEFORE) == {A.uuid: A, B.uuid: more}
    assert result(removal(A), BEFORE) == {B.uuid: B}
    assert result(removal(network("c")), BEFORE) is NotFound
    assert result(becomes(network("b", 3, 2)), BEFORE) is EndpointClaimed

    def invalid(_: Networks) -> Networks:
        raise InvalidDescription("no")

    assert result(Operation(lambda: None, invalid), BEFORE) is InvalidDescription


def test_operations_at_the_same_time_have_each_order_that_is_possible() -> None:
    moved, other = becomes(network("b", 4)), becomes(network("c", 4))
    assert results([], BEFORE) == [BEFORE]
    assert results([moved, other], BEFORE) == []
    assert results([removal(A), becomes(network("b", 2))], BEFORE) == [{B.uuid: network("b", 2)}]


@pytest.mark.parametrize(
    ("wanted", "faults", "error", "right"),
    [
        (BEFORE, set(), None, True),
        (BEFORE, set(), NoPath("x"), False),
        (BEFORE, {"cut"}, NoPath("x"), True),
        (BEFORE, {"cut"}, RuleRefused("x"), False),
        (BEFORE, {"cut", "away"}, EndpointClaimed("x"), False),
        (EndpointClaimed, set(), EndpointClaimed("x"), True),
        (EndpointClaimed, set(), None, False),
        (EndpointClaimed, set(), NoPath("x"), False),
        (EndpointClaimed, {"cut"}, NoPath("x"), True),
    ],
)
def test_an_operation_is_refused_for_a_reason_that_there_is(
    wanted: Networks | type[NetvirtError], faults: set[str], error: NetvirtError | None, right: bool
) -> None:
    outcomes = Outcomes()
    if right:
        outcomes.add(wanted, faults, error)
        assert outcomes.counts.total() == 1
    else:
        with pytest.raises(AssertionError):
            outcomes.add(wanted, faults, error)


def test_the_share_that_was_done_is_of_those_that_only_faults_stood_against() -> None:
    outcomes = Outcomes()
    for error in (None, NoPath("x"), None, None):
        outcomes.add(BEFORE, {"cut"}, error)
    outcomes.add(BEFORE, set(), None)
    outcomes.add(EndpointClaimed, {"cut"}, EndpointClaimed("x"))
    assert outcomes.share() == (0.75, 4)


def test_a_tally_bounds_what_is_refused() -> None:
    tally = Tally()
    for error in (None, NoPath("x"), None, None):
        with tally.trial(NoPath):
            if error is not None:
                raise error
    tally.check(least=3, most_refused=0.25)
    with pytest.raises(AssertionError, match="only 3"):
        tally.check(least=4, most_refused=0.25)
    with pytest.raises(AssertionError, match="25% of the trials"):
        tally.check(least=3, most_refused=0.2)
    with pytest.raises(RuleRefused), tally.trial(NoPath):
        raise RuleRefused("x")
