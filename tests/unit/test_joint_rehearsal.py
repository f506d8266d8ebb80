"""A dry run of several operations judges them against each other, as they would be carried out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import libnetvirt
from libnetvirt import (
    AlreadyExists,
    EndpointClaimed,
    NetvirtError,
    NetworkNotFound,
    PortNotFound,
    Unsupported,
    VirtualNetwork,
)
from tests.support.command_line import Server

P, Q, R = (1, 2), (1, 3), (4, 1)


def network(name: str, *places: tuple[int, int], uuid: int, vlan: str | None = None) -> VirtualNetwork:
    return VirtualNetwork(
        uuid=uuid,
        name=name,
        endpoints=[{"uuid": i, "switch": s, "port": p, "vlan": vlan} for i, (s, p) in enumerate(places, 1)],
    )


@pytest.fixture(params=["in this process", "over a server"])
def connection(request: pytest.FixtureRequest) -> Iterator[libnetvirt.Connection]:
    served = request.param == "over a server"
    uri = request.getfixturevalue("served") if served else "test:///default"
    with libnetvirt.open(uri) as opened:
        yield opened


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    server = Server(tmp_path / "n.sock", "test:///default")
    yield server.uri
    server.stop()


def outcome(connection: libnetvirt.Connection, wanted: list[VirtualNetwork]) -> list[str] | str:
    """What applying them does, or the error."""
    try:
        return [f"{one.name} {one.outcome} {one.changes}" for one in connection.apply_all(wanted)]
    except NetvirtError as error:
        return f"{type(error).__name__}: {error}"


#: networks that are there, networks that are applied; in each, dry run and real run say the same
CASES = {
    "two new networks want one place": ([], [network("a", P, uuid=1), network("b", P, uuid=2)]),
    "with tags that overlap": (
        [],
        [network("a", P, uuid=1, vlan="100-199"), network("b", P, uuid=2, vlan="150")],
    ),
    "with tags that do not": ([], [network("a", P, uuid=1, vlan="100"), network("b", P, uuid=2, vlan="150")]),
    "two new networks want one name": ([], [network("a", P, uuid=1), network("a", Q, uuid=2)]),
    "a place that a later one gives up": (
        [network("old", P, uuid=1)],
        [network("new", P, uuid=2), network("old", Q, uuid=1)],
    ),
    "a place that an earlier one gives up": (
        [network("old", P, uuid=1)],
        [network("old", Q, uuid=1), network("new", P, uuid=2)],
    ),
    "a swap": (
        [network("a", P, uuid=1), network("b", Q, uuid=2)],
        [network("a", Q, uuid=1), network("b", P, uuid=2)],
    ),
    "a name that is passed on": (
        [network("a", P, uuid=1), network("b", Q, uuid=2)],
        [network("b", P, uuid=1), network("c", Q, uuid=2)],
    ),
    "a place that nobody gives up": (
        [network("a", P, uuid=1)],
        [network("b", R, uuid=2), network("c", P, uuid=3)],
    ),
    "beside a fault of another kind": (
        [network("a", P, uuid=1)],
        [network("a", Q, uuid=1), network("b", P, (9, 9), uuid=2)],
    ),
    "the same twice": ([], [network("a", P, uuid=1), network("a", P, R, uuid=1)]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_says_what_the_real_run_does(connection: libnetvirt.Connection, case: str) -> None:
    there, wanted = CASES[case]
    connection.create_all(there)
    before = connection.descriptions()
    foreseen = outcome(connection.rehearsal(joint=True), wanted)
    assert connection.descriptions() == before
    assert foreseen == outcome(connection, wanted)
    connection.remove_all([one.uuid for one in connection.descriptions()])


def test_new_networks_that_want_one_place_are_refused_as_when_created(
    connection: libnetvirt.Connection,
) -> None:
    wanted = [network("a", P, uuid=1), network("b", P, uuid=2)]
    for target in (connection.rehearsal(joint=True), connection):
        with pytest.raises(
            EndpointClaimed, match=r"belongs to endpoint 1 of network a \(uuid 1\)"
        ) as refused:
            target.create_all(wanted)
        assert (refused.value.network, refused.value.endpoint) == ("1", "1")


def test_what_a_dry_run_has_removed_or_made_is_so_for_what_follows(connection: libnetvirt.Connection) -> None:
    connection.create(network("a", P, uuid=1))
    trial = connection.rehearsal(joint=True)
    trial.lookup("a").remove()
    with pytest.raises(NetworkNotFound, match="there is no network 'a' any more"):
        trial.lookup("a")
    trial.create(network("a", P, uuid=2))
    assert trial.forecast is not None
    assert trial.forecast.outcome == "created"
    assert trial.lookup("a").uuid == "2"
    with pytest.raises(AlreadyExists):
        trial.create(network("b", Q, uuid=2))
    trial.lookup("a").add_endpoint(uuid=2, switch=1, port=3)
    assert trial.forecast.changes == ("endpoint 2 added",)
    with pytest.raises(PortNotFound):
        trial.lookup("a").modify_endpoint(2, port=99)
    trial.lookup("a").modify_endpoint(2, port=4)
    trial.create(network("c", Q, uuid=3))
    assert [one.uuid for one in connection.networks()] == ["1"]


def test_a_rehearsal_that_is_not_joint_judges_each_by_itself(connection: libnetvirt.Connection) -> None:
    trial = connection.rehearsal()
    trial.create(network("a", P, uuid=1))
    trial.create(network("b", P, uuid=2))
    with pytest.raises(Unsupported):
        trial.apply_all([network("a", P, uuid=1)])
