"""Operations on several networks at once: their order, what overlaps, and what is left after an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

import libnetvirt
from libnetvirt import AlreadyExists, EndpointClaimed, NetworkNotFound, VirtualNetwork
from libnetvirt.errors import CODES, PortNotFound, from_json
from libnetvirt.several import overlap


@pytest.fixture
def connection() -> Iterator[libnetvirt.Connection]:
    with libnetvirt.open("test:///default") as connection:
        yield connection


def _network(name: str, *places: tuple[int, int], uuid: int | None = None) -> VirtualNetwork:
    """A network with endpoints 1, 2, … at (switch, port)."""
    ends = [{"uuid": n, "switch": s, "port": p} for n, (s, p) in enumerate(places, 1)]
    return VirtualNetwork.model_validate(
        {"name": name, "endpoints": ends} | ({} if uuid is None else {"uuid": uuid})
    )


P, Q, R, S = (1, 1), (2, 1), (3, 1), (4, 1)


@pytest.mark.parametrize("turned", [False, True])
def test_networks_may_swap_and_pass_on_endpoints_in_any_order(
    connection: libnetvirt.Connection, turned: bool
) -> None:
    connection.create_all([_network("a", P), _network("b", Q), _network("c", R)])
    for wanted in (
        [_network("a", Q), _network("b", P)],  # a swap
        [_network("a", R), _network("b", Q), _network("c", P)],  # a ring, with what they have now
        [_network("d", R), _network("a", S)],  # a new one takes the place
        [_network("c", (4, 2)), _network("d", P, S), _network("a", R)],  # a chain
    ):
        order = wanted[::-1] if turned else wanted
        told: list[str] = []
        applied = connection.apply_all(order, done=lambda one: told.append(one.name))  # noqa: B023
        assert [a.name for a in applied] == [n.name for n in order]
        assert sorted(told) == sorted(n.name for n in order)
        now = {n.name: n for n in connection.descriptions()}
        for network in order:
            assert now[network.name].endpoints == network.endpoints


def test_a_swap_is_told_as_one_change_of_each_network(connection: libnetvirt.Connection) -> None:
    connection.create_all([_network("a", P), _network("b", Q)])
    applied = connection.apply_all([_network("a", Q), _network("b", P)])
    assert [a.changes for a in applied] == [("endpoint 1 changed",), ("endpoint 1 changed",)]


def test_a_place_that_nobody_gives_up_is_refused_and_nothing_is_taken_away_for_it(
    connection: libnetvirt.Connection,
) -> None:
    connection.create_all([_network("a", P), _network("b", Q), _network("out", R)])
    before = connection.descriptions()
    with pytest.raises(EndpointClaimed, match="network out") as caught:
        connection.apply_all([_network("a", R), _network("b", P)])
    assert (caught.value.network, caught.value.endpoint) == (before[2].uuid, "1")
    with pytest.raises(EndpointClaimed, match="network b"):
        connection.apply_all([_network("a", Q), _network("b", Q, S)])
    assert connection.descriptions() == before


def test_an_endpoint_that_was_given_up_in_vain_is_given_back(connection: libnetvirt.Connection) -> None:
    connection.create_all([_network("a", P), _network("b", Q)])
    before = connection.descriptions()
    with pytest.raises(PortNotFound):
        connection.apply_all([_network("a", Q, (1, 999)), _network("b", P)])
    assert connection.descriptions() == before


def test_a_name_may_be_passed_on(connection: libnetvirt.Connection) -> None:
    connection.create_all([_network("a", P, uuid=1), _network("b", Q, uuid=2)])
    connection.apply_all([_network("b", P, uuid=1), _network("c", Q, uuid=2)])
    assert [n.name for n in connection.descriptions()] == ["b", "c"]


def test_a_name_that_is_the_uuid_of_another_network_stands_for_neither(
    connection: libnetvirt.Connection,
) -> None:
    number = connection.create(_network("first", P, uuid=777))
    connection.create(_network("777", Q, uuid=5))
    with pytest.raises(AlreadyExists, match=r"with name 777 exists already \(uuid 5"):
        connection.create(_network("777", R))
    connection.create(_network("third", R, uuid=6)).remove()
    # Found by its name, not the one with this uuid.
    assert connection.apply(_network("777", S)).uuid == "5"
    assert [n.endpoints[0].switch for n in connection.descriptions()] == ["1", "4"]
    assert connection.lookup("777").uuid == "777"
    number.remove()
    with pytest.raises(NetworkNotFound):
        number.remove()
    assert [n.name for n in connection.descriptions()] == ["777"]


def test_the_error_of_a_claimed_endpoint_keeps_its_holder_over_the_wire() -> None:
    error = from_json(EndpointClaimed("taken", network="7", endpoint="11").to_json())
    assert isinstance(error, EndpointClaimed)
    assert (str(error), error.network, error.endpoint) == ("taken", "7", "11")
    assert {type(from_json({"code": code, "message": "x"})) for code in CODES} == set(CODES.values())


def test_operations_overlap_up_to_the_limit_and_are_told_in_order() -> None:
    running, most, told = 0, 0, list[int]()

    async def operation(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20 - number):
            await asyncio.sleep(0)
        running -= 1
        return number

    assert asyncio.run(overlap(10, operation, limit=4, done=told.append)) == list(range(10)) == told
    assert most == 4


def test_after_an_error_nothing_is_begun_and_what_runs_is_finished() -> None:
    begun, told = list[int](), list[int]()

    async def operation(number: int) -> int:
        begun.append(number)
        await asyncio.sleep(0)
        if number == 1:
            raise NetworkNotFound("1")
        await asyncio.sleep(0)
        return number

    with pytest.raises(NetworkNotFound, match="1"):
        asyncio.run(overlap(10, operation, limit=3, done=told.append))
    assert begun == [0, 1, 2]
    assert told == [0, 2]
