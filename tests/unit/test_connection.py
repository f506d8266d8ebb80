"""The generic interface, blocking and as coroutines, over the test driver."""

from __future__ import annotations

import asyncio
import inspect
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import libnetvirt
from libnetvirt import (
    Connection,
    Constraint,
    Encapsulation,
    Endpoint,
    Event,
    Insertion,
    Network,
    Timeout,
    VirtualNetwork,
    aio,
)
from libnetvirt.driver import FEATURES, Capabilities, Change, Combination, Driver
from libnetvirt.drivers.test import TestDriver, Topology
from libnetvirt.errors import (
    AlreadyExists,
    ConnectionClosed,
    ConstraintNotFound,
    DriverNotFound,
    EndpointNotFound,
    InvalidDescription,
    InvalidURI,
    NetworkNotFound,
    NoPath,
    PreconditionFailed,
    StaleChange,
    SwitchNotFound,
    Unsupported,
)
from libnetvirt.model import Applied, Counters, Outcome, Recovered, RuleLine, Rules, Verification
from libnetvirt.model.differences import SHOWN, change_text, differences
from libnetvirt.store.sqlite import MEMORY, SqliteStore

BLUE = VirtualNetwork(
    uuid=7,
    name="blue",
    endpoints=(Endpoint(uuid=11, switch=1, port=1), Endpoint(uuid=12, switch=2, port=1, vlan=20)),
)
XML = """<network uuid="7" name="blue" xmlns="urn:libnetvirt:network:1">
  <forwarding>L2</forwarding>
  <endpoint uuid="11"><switch>1</switch><port>1</port></endpoint>
  <endpoint uuid="12"><switch>2</switch><port>1</port><vlan>20</vlan></endpoint>
</network>
"""


@pytest.fixture
def connection() -> Iterator[Connection]:
    with libnetvirt.open("test:///default") as opened:
        yield opened


@pytest.fixture
def blue(connection: Connection) -> Network:
    return connection.create(BLUE)


class Generous(TestDriver):
    """Claims to offer everything, and remembers what it is asked for."""

    async def rules(self, uuid: str | None) -> Sequence[RuleLine]:
        return [RuleLine(switch="1", table="classify", text="rule", network=uuid or "")]

    async def verify(self, uuids: Sequence[str]) -> Verification:
        return Verification(
            proved=True, properties=(), networks=len(uuids), switches=0, rules=0, classes=0, seconds=0
        )

    async def repair(self, uuid: str | None, *, orphans: bool) -> Sequence[str]:
        return [f"repaired {uuid} {orphans}"]

    async def reload(self, *, degrade: bool) -> Sequence[str]:
        return [f"reloaded {degrade}"]

    async def adopt(self, switch: str | None) -> Sequence[str]:
        return [f"adopted {switch}"]

    async def forget(self, switch: str | None) -> Sequence[str]:
        return [f"forgot {switch}"]

    async def recover(self) -> Recovered:
        return Recovered(notes=("nothing",))

    @property
    def capabilities(self) -> Capabilities:
        combinations = (
            Combination(
                encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT
            ),
        )
        defaults = Rules(encapsulation="vlan", insertion="offline", timeout="permanent")
        return Capabilities(
            driver="generous", features=frozenset(FEATURES), combinations=combinations, defaults=defaults
        )


class Meagre(TestDriver):
    """Offers next to nothing."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(driver="meagre", features=frozenset({"forwarding.L2"}))

    async def statistics(self, uuid: str) -> Sequence[Counters]:
        raise AssertionError(f"asked for what is not offered: {uuid}")


def over(cls: type[TestDriver]) -> aio.Connection:
    return aio.Connection(cls(Topology("ring", 4, 8), SqliteStore(MEMORY)), "test:///default")


# -- opening and closing ------------------------------------------------------------------------------------


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIBNETVIRT_URI", "test:///default?switches=2")
    with libnetvirt.open() as connection:
        assert len(connection.substrate().switches) == 2
        assert connection.uri == "test:///default?switches=2"
    with pytest.raises(InvalidURI, match="no connection URI"):
        libnetvirt.open("")
    monkeypatch.delenv("LIBNETVIRT_URI")
    with pytest.raises(InvalidURI, match="LIBNETVIRT_URI"):
        libnetvirt.open()


def test_a_uri_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(
        TypeError, match=r"give a connection URI as a text, for example test:///default.*: not int"
    ):
        libnetvirt.open(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "word"),
    [("tset:///", "'test'"), ("openfow:///?listen=:6653", "'openflow'"), ("test+unx:///a", "'unix'")],
)
def test_a_driver_that_is_not_installed_is_a_wrong_uri_and_the_nearest_is_named(uri: str, word: str) -> None:
    with pytest.raises(DriverNotFound, match=f"Did you mean {word}") as caught:
        libnetvirt.open(uri)
    assert caught.value.exit_status == 3


def test_the_nearest_names_are_named_where_a_name_is_not_known(connection: Connection) -> None:
    network = connection.create(BLUE)
    with pytest.raises(NetworkNotFound, match=r"no network 'bule'\. Did you mean 'blue'\? 'netvirt list'"):
        connection.lookup("bule")
    with pytest.raises(NetworkNotFound, match="no network 'green': 'netvirt list'"):
        connection.lookup("green")
    network.add_endpoint(uuid=1234, switch=3, port=3)
    with pytest.raises(EndpointNotFound, match=r"has no endpoint 1243\. Did you mean '1234'\? It has: "):
        network.remove_endpoint(1243)


def test_a_change_of_nothing_is_a_type_error(connection: Connection) -> None:
    network = connection.create(BLUE)
    with pytest.raises(TypeError, match="nothing to change: give at least one field, such as vlan=20"):
        network.modify_endpoint(11)
    with pytest.raises(TypeError, match="nothing to change: give at least one field, such as max_hops=3"):
        network.modify_constraint(11, 12)


def test_check_tells_what_apply_would_do_and_changes_nothing(connection: Connection) -> None:
    assert connection.check(BLUE) == Applied(uuid="7", name="blue", outcome=Outcome.CREATED)
    assert not connection.networks()
    connection.create(BLUE)
    assert connection.check(BLUE).outcome == "unchanged"
    wider = BLUE.with_endpoint(Endpoint(uuid=13, switch=2, port=3))
    found = connection.check(wider)
    assert (found.outcome, found.changes) == ("changed", ("endpoint 13 added",))
    assert connection.lookup("blue").description() == BLUE
    assert connection.apply(wider) == found


@pytest.mark.parametrize(
    ("uri", "error"),
    [("nonsense", InvalidURI), ("carrier-pigeon:///", DriverNotFound), ("test+pigeon:///", DriverNotFound)],
)
def test_a_uri_that_names_nothing_is_refused(uri: str, error: type[Exception]) -> None:
    threads = threading.active_count()
    with pytest.raises(error):
        libnetvirt.open(uri)
    assert threading.active_count() == threads, "no thread is left behind"


def test_a_closed_connection_says_so_and_closes_twice() -> None:
    connection = libnetvirt.open("test:///default")
    blue = connection.create(BLUE)
    connection.close()
    connection.close()
    for work in (connection.networks, connection.substrate, connection.events, blue.remove):
        with pytest.raises(ConnectionClosed):
            work()
    with pytest.raises(ConnectionClosed):
        _ = blue.description()
    with pytest.raises(ConnectionClosed):
        _ = connection.driver


def test_a_closed_coroutine_connection_says_so_and_closes_twice() -> None:
    async def story() -> None:
        connection = await aio.open("test:///default")
        await connection.close()
        await connection.close()
        with pytest.raises(ConnectionClosed):
            await connection.networks()
        with pytest.raises(ConnectionClosed):
            connection.events()

    asyncio.run(story())


def test_a_call_that_runs_while_the_connection_closes_ends() -> None:
    connection = libnetvirt.open("test:///default")
    started, outcome = threading.Event(), []

    async def for_ever() -> None:
        started.set()
        await asyncio.Event().wait()

    def call() -> None:
        try:
            connection._loop.run(for_ever())
        except ConnectionClosed as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    started.wait()
    connection.close()
    thread.join()
    assert len(outcome) == 1


def test_a_description_is_replaced_only_if_it_is_still_what_the_new_one_was_made_from(
    connection: Connection,
) -> None:
    blue = connection.create(BLUE)
    before = blue.description()
    wanted = before.changed(name="azure")
    blue.add_endpoint(uuid=13, switch=2, port=3)
    with pytest.raises(PreconditionFailed):
        blue.if_match(before).replace(wanted)
    assert blue.description().endpoint(13) is not None
    assert blue.replace(wanted).changes == ("name: blue -> azure", "endpoint 13 removed")
    with pytest.raises(InvalidDescription, match="the uuid of network 7 cannot be changed to 9"):
        blue.replace(wanted.changed(uuid=9))
    assert blue.description() == wanted


def test_a_rehearsal_tells_what_would_change_and_changes_nothing(connection: Connection) -> None:
    trial = connection.rehearsal()
    trial.create(BLUE)
    assert trial.forecast is not None
    assert (trial.forecast.name, trial.forecast.outcome, trial.forecast.rules) == ("blue", "created", None)
    assert connection.networks() == []
    blue = connection.create(BLUE)
    before = blue.description()
    rehearsed = trial.lookup("blue")
    rehearsed.add_endpoint(uuid=13, switch=2, port=3)
    assert trial.forecast.changes == ("endpoint 13 added",)
    assert trial.apply(BLUE).outcome == trial.forecast.outcome == "unchanged"
    with pytest.raises(EndpointNotFound):
        rehearsed.remove_endpoint(99)
    rehearsed.remove()
    assert trial.forecast.outcome == "removed"
    for refused in (trial.repair, trial.reload, trial.adopt, trial.forget, lambda: trial.apply_all([BLUE])):
        with pytest.raises(Unsupported):
            refused()
    trial.close()
    assert blue.description() == before
    assert connection.forecast is None


# -- the two faces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocking", "coroutine"), [(Connection, aio.Connection), (Network, aio.Network)])
def test_both_faces_have_the_same_names_and_signatures(blocking: type, coroutine: type) -> None:
    internal = {"carry_out", "examine", "foresee"}
    names = {n for n in vars(coroutine) if not n.startswith("_")} - internal
    assert names <= {n for n in dir(blocking) if not n.startswith("_")}
    for name in names:
        theirs, ours = getattr(coroutine, name), getattr(blocking, name)
        if inspect.isfunction(theirs) and inspect.isfunction(ours):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
            if name not in ("events", "networks", "create", "lookup", "rehearsal", "if_match"):
                assert typing.get_type_hints(ours) == typing.get_type_hints(theirs)
            if name != "events":  # the blocking one says that it blocks
                assert inspect.getdoc(ours) == inspect.getdoc(theirs)


def test_the_blocking_methods_return_blocking_networks() -> None:
    for name in ("create", "lookup"):
        assert typing.get_type_hints(getattr(Connection, name))["return"] is Network
        assert inspect.signature(getattr(Connection, name)).return_annotation is Network
    assert typing.get_type_hints(Connection.networks)["return"] == list[Network]
    for name, method in [*vars(Connection).items(), *vars(Network).items()]:
        if inspect.isfunction(method) and not name.startswith("__"):
            assert "return" in typing.get_type_hints(method), name
            assert "libnetvirt.network" not in str(inspect.signature(method)), name


def test_the_whole_life_of_a_network_blocking(connection: Connection) -> None:
    blue = connection.create(BLUE)
    assert blue.uuid == "7"
    assert blue.description() == BLUE
    assert str(blue.state().state) == "active"
    assert [n.uuid for n in connection.networks()] == ["7"]
    assert connection.lookup("blue").uuid == connection.lookup(7).uuid == "7"
    assert connection.descriptions() == [BLUE]
    assert "Network 7" in repr(blue)
    added = blue.add_endpoint(uuid=13, switch=3, port="2")
    assert added == Endpoint(uuid=13, switch=3, port=2)
    assert blue.modify_endpoint(13, port=3, vlan=5).tag == "vlan 5"
    assert blue.replace_endpoint(Endpoint(uuid=13, switch=4, port=1)).tag == "untagged"
    assert [e.place for e in blue.description().endpoints][2] == "switch 4 port 1 untagged"
    assert len(blue.paths()) == 6
    assert [c.endpoint for c in blue.statistics()] == ["11", "12", "13"]
    blue.remove_endpoint("13")
    assert blue.description() == BLUE
    blue.remove()
    assert connection.networks() == []


def test_the_whole_life_of_a_network_in_coroutines() -> None:
    async def story() -> None:
        async with await aio.open("test:///default") as connection:
            blue = await connection.create(BLUE)
            await blue.add_endpoint(Endpoint(uuid=13, switch=3, port=1))
            await blue.modify_endpoint("13", switch=4)
            assert len((await blue.description()).endpoints) == 3
            assert str((await blue.state()).state) == "active"
            assert len(await blue.paths()) == 6
            assert len(await blue.statistics()) == 3
            await blue.remove_endpoint(13)
            assert await connection.descriptions() == [BLUE]
            assert (await connection.lookup("blue")).uuid == "7"
            assert (await connection.capabilities()).driver == "test"
            assert len((await connection.substrate()).switches) == 4
            await blue.remove()
            assert await connection.networks() == []

    asyncio.run(story())


def test_a_description_is_an_object_a_text_or_a_file(connection: Connection, tmp_path: Path) -> None:
    file = tmp_path / "blue.xml"
    file.write_text(XML)
    for description in (BLUE, XML, file, str(file)):
        network = connection.create(description)
        assert network.description() == BLUE
        network.remove()


def test_a_text_of_two_networks_is_refused(connection: Connection) -> None:
    text = '[{"name": "a"}, {"name": "b"}]'
    with pytest.raises(InvalidDescription):
        connection.create(text + "\n")
    assert connection.networks() == []


def test_a_bad_description_lists_every_fault_and_changes_nothing(connection: Connection) -> None:
    bad = XML.replace("<vlan>20", "<vlan>5000").replace('uuid="12"', 'uuid="11"')
    with pytest.raises(InvalidDescription) as caught:
        connection.create(bad)
    assert len(caught.value.faults) >= 2
    assert connection.networks() == []


# -- errors -------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_named(connection: Connection, blue: Network) -> None:
    with pytest.raises(NetworkNotFound, match="'red'"):
        connection.lookup("red")
    with pytest.raises(NetworkNotFound):
        connection.rules("red")
    for work in (lambda: blue.remove_endpoint(99), lambda: blue.modify_endpoint(99, port=2)):
        with pytest.raises(EndpointNotFound, match="It has: 11, 12"):
            work()
    with pytest.raises(EndpointNotFound):
        blue.replace_endpoint(Endpoint(uuid=99, switch=1, port=2))
    for change in (
        blue.remove_constraint,
        lambda a, b: blue.modify_constraint(source=a, destination=b, max_hops=1),
        lambda a, b: blue.replace_constraint(Constraint(source=a, destination=b, max_hops=1)),
    ):
        with pytest.raises(ConstraintNotFound):
            change(11, 12)
    blue.remove()
    for gone in (blue.remove, blue.description, blue.state, lambda: blue.add_endpoint(
        uuid=1, switch=1, port=1
    )):  # fmt: skip
        with pytest.raises(NetworkNotFound):
            gone()


def test_an_empty_description_is_not_a_file(connection: Connection) -> None:
    with pytest.raises(InvalidDescription, match="the description is empty"):
        connection.create("")


def test_what_is_there_already_is_named(connection: Connection, blue: Network) -> None:
    with pytest.raises(AlreadyExists, match="uuid 7"):
        connection.create(BLUE.changed(name="other"))
    with pytest.raises(AlreadyExists, match="name blue"):
        connection.create(VirtualNetwork(uuid=8, name="blue"))
    with pytest.raises(AlreadyExists, match="modify it instead"):
        blue.add_endpoint(uuid=11, switch=3, port=3)
    assert connection.descriptions() == [BLUE]


def test_no_argument_is_dropped_silently(connection: Connection, blue: Network) -> None:
    endpoint = Endpoint(uuid=13, switch=3, port=1)
    constraint = Constraint(source=11, destination=12, max_hops=3)
    calls: tuple[Callable[[], object], ...] = (
        lambda: blue.add_endpoint(endpoint, vlan=20),  # type: ignore[call-overload]
        lambda: blue.add_endpoint("13"),  # type: ignore[call-overload]
        lambda: blue.add_constraint(constraint, max_hops=2),  # type: ignore[call-overload]
        lambda: blue.modify_endpoint(endpoint),  # type: ignore[arg-type]
        lambda: blue.replace_endpoint(endpoint, vlan=20),  # type: ignore[call-arg]
        lambda: blue.replace_constraint(constraint, max_hops=2),  # type: ignore[call-arg]
        lambda: blue.replace_endpoint({"uuid": 13}),  # type: ignore[arg-type]
        lambda: blue.replace_constraint((11, 12)),  # type: ignore[arg-type]
        lambda: blue.remove_endpoint(endpoint),  # type: ignore[arg-type]
        lambda: connection.create({"name": "red"}),  # type: ignore[arg-type]
        lambda: connection.create(None),  # type: ignore[arg-type]
    )
    for call in calls:
        with pytest.raises(TypeError):
            call()
    twice: dict[str, Any] = {"port": 2, "Port": 3}
    for unknown in (
        lambda: blue.add_endpoint(uuid=13, switch=3, port=1, vlam=20),  # type: ignore[call-overload]
        lambda: blue.modify_endpoint(11, vlam=20),  # type: ignore[call-arg]
        lambda: blue.modify_endpoint(11, uuid=13),  # type: ignore[call-arg]
        lambda: blue.modify_endpoint(11, **twice),
        lambda: connection.repair("blue", orphans=True),
    ):
        with pytest.raises(InvalidDescription):
            unknown()
    assert blue.description() == BLUE


def test_a_refused_change_leaves_no_trace(connection: Connection, blue: Network) -> None:
    with pytest.raises(SwitchNotFound):
        blue.add_endpoint(uuid=13, switch=99, port=1)
    with pytest.raises(InvalidDescription):
        blue.modify_endpoint(11, vlan=5000)
    with pytest.raises(InvalidDescription):
        blue.modify_endpoint(11, switch=2, port=1, vlan=20)
    assert connection.descriptions() == [BLUE]
    assert str(blue.add_endpoint(uuid=13, switch=99, port=1, pending=True).switch) == "99"


# -- capabilities -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "feature"),
    [
        (
            {"endpoints": [{"uuid": 1, "switch": 1, "port": 1, "bandwidth": {"inbound": "1 Mbit/s"}}]},
            "endpoint.limits",
        ),
        (
            {"endpoints": [{"uuid": 1, "switch": 1, "port": 1, "storm": {"rate": 1000}}]},
            "endpoint.storm",
        ),
    ],
)
def test_what_is_not_offered_is_refused_in_one_wording(
    connection: Connection, fields: dict[str, object], feature: str
) -> None:
    with pytest.raises(Unsupported) as caught:
        connection.create(VirtualNetwork(**fields))  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(
        f"the test driver does not offer {feature} ({FEATURES[feature]}), which endpoint 1 needs: "
    )
    assert text.endswith("'netvirt drivers' shows what each driver offers.")
    assert connection.networks() == []


@pytest.mark.parametrize("kind", ["min_bandwidth", "max_bandwidth", "max_latency", "max_hops"])
def test_constraints_are_refused_by_capability(blue: Network, kind: str) -> None:
    asked: dict[str, Any] = {kind: {"max_latency": "5 ms", "max_hops": 3}.get(kind, "1 Mbit/s")}
    feature = f"constraint.{kind.replace('_', '-')}"
    with pytest.raises(Unsupported, match=f"does not offer {feature} .*from 11 to 12 needs"):
        blue.add_constraint(source=11, destination=12, **asked)
    assert blue.description() == BLUE


def test_rules_are_not_shown_and_their_options_have_no_effect(connection: Connection) -> None:
    with pytest.raises(Unsupported, match="does not offer rules"):
        connection.rules()
    with pytest.raises(Unsupported, match="does not offer verify"):
        connection.verify()
    for encapsulation in ("native", "vlan", "mpls"):
        connection.create(VirtualNetwork(rules={"encapsulation": encapsulation}))


def test_optional_readings_are_refused_before_the_driver_is_asked() -> None:
    async def story() -> None:
        async with over(Meagre) as connection:
            blue = await connection.create(VirtualNetwork(endpoints=BLUE.endpoints[:1]))
            for work in (
                blue.paths, blue.statistics, blue.constraint_statistics, connection.rules, connection.repair,
                connection.reload, connection.backup, connection.adopt, connection.forget, connection.recover,
            ):  # fmt: skip
                with pytest.raises(Unsupported, match="the meagre driver does not offer"):
                    await work()
            for fields in ({"vlan": 5}, {"mac": "02:00:00:00:00:01"}):
                with pytest.raises(Unsupported, match="endpoint 14 needs"):
                    await blue.add_endpoint(uuid=14, switch=1, port=2, **fields)
            with pytest.raises(Unsupported, match="pending=True needs"):
                await blue.add_endpoint(uuid=14, switch=9, port=2, pending=True)
            with pytest.raises(Unsupported, match=r"forwarding\.L3"):
                await connection.create(VirtualNetwork(forwarding="L3"))

    asyncio.run(story())


def test_a_driver_that_offers_everything_is_asked_everything() -> None:
    async def story() -> None:
        async with over(Generous) as connection:
            blue = await connection.create(BLUE)
            assert [r.network for r in await connection.rules("blue")] == ["7"]
            assert [r.network for r in await connection.rules()] == [""]
            assert (await connection.verify()).networks == 0
            assert (await connection.verify("blue", 7)).networks == 2
            with pytest.raises(NetworkNotFound):
                await connection.verify("blue", "red")
            assert await connection.repair("blue") == ["repaired 7 False"]
            assert await connection.repair(orphans=True) == ["repaired None True"]
            assert await connection.adopt(1) == ["adopted 1"]
            assert await connection.forget() == ["forgot None"]
            assert await connection.recover() == Recovered(notes=("nothing",))
            assert await connection.reload() == ["reloaded False"]
            assert await connection.reload(degrade=True) == ["reloaded True"]
            with pytest.raises(NetworkNotFound):
                await connection.repair("red")
            added = await blue.add_constraint(source=11, destination=12, min_bandwidth="1 Mbit/s")
            assert added == Constraint(source=11, destination=12, min_bandwidth="1 Mbit/s")
            with pytest.raises(AlreadyExists, match="from 11 to 12 already"):
                await blue.add_constraint(added)
            changed = await blue.modify_constraint(source=11, destination=12, max_hops=2)
            (now,) = (await blue.description()).constraints
            assert now == changed == added.changed(max_hops=2)
            hyphenated: dict[str, Any] = {"max-hops": 3}
            await blue.modify_constraint(11, 12, min_bandwidth=None, **hyphenated)
            (now,) = (await blue.description()).constraints
            assert (now.max_hops, now.min_bandwidth) == (3, None)
            with pytest.raises(InvalidDescription, match="asks for nothing"):
                await blue.modify_constraint(11, 12, max_hops=None)
            await blue.replace_constraint(added)
            assert (await blue.description()).constraints == (added,)
            await blue.remove_constraint(11, 12)
            await blue.add_constraint(added)
            await blue.remove_endpoint(12)
            assert (await blue.description()).constraints == ()
            with pytest.raises(Unsupported, match="Offered: vlan/offline/permanent"):
                await connection.create(VirtualNetwork(rules={"encapsulation": "mpls"}))
            await connection.create(VirtualNetwork(rules={"encapsulation": "vlan"}))

    asyncio.run(story())


# -- concurrency --------------------------------------------------------------------------------------------


def test_two_tasks_that_add_endpoints_both_succeed() -> None:
    stale = 0

    class Counting(TestDriver):
        async def apply(self, change: Change) -> None:
            nonlocal stale
            try:
                await super().apply(change)
            except StaleChange:
                stale += 1
                raise

    async def story() -> int:
        async with over(Counting) as connection:
            blue = await connection.create(BLUE)
            adding = [blue.add_endpoint(uuid=n, switch=3, port=n - 19) for n in range(20, 25)]
            await asyncio.gather(*adding)
            return len((await blue.description()).endpoints)

    assert asyncio.run(story()) == 7
    assert stale > 0, "they did get into each other's way"


def test_a_network_that_never_stops_changing_is_given_up() -> None:
    class Restless(TestDriver):
        async def apply(self, change: Change) -> None:
            if change.before is not None:
                raise StaleChange("again")
            await super().apply(change)

    async def story() -> None:
        async with over(Restless) as connection:
            blue = await connection.create(BLUE)
            with pytest.raises(StaleChange):
                await blue.remove()

    asyncio.run(story())


def test_two_tasks_that_apply_the_same_text_both_succeed() -> None:
    async def story() -> list[str]:
        async with over(TestDriver) as connection:
            applied = await asyncio.gather(*(connection.apply(BLUE) for _ in range(3)))
            return sorted(a.outcome for a in applied)

    assert asyncio.run(story()) == ["created", "unchanged", "unchanged"]


# -- apply --------------------------------------------------------------------------------------------------


def test_apply_creates_changes_or_leaves_alone_and_says_which(connection: Connection) -> None:
    assert connection.apply(XML).outcome == "created"
    assert connection.apply(XML).outcome == "unchanged"
    more = XML.replace("<port>1</port></endpoint>", "<port>2</port></endpoint>").replace(
        "</network>", '<endpoint uuid="13"><switch>3</switch><port>1</port></endpoint></network>'
    )
    applied = connection.apply(more)
    assert (applied.outcome, applied.uuid, applied.name) == ("changed", "7", "blue")
    assert applied.changes == ("endpoint 13 added", "endpoint 11 changed")
    assert connection.apply(BLUE).changes == ("endpoint 13 removed", "endpoint 11 changed")


def test_apply_finds_a_network_by_name_if_the_text_gives_no_uuid(
    connection: Connection, blue: Network
) -> None:
    applied = connection.apply('{"name": "blue", "endpoints": []}\n')
    assert (applied.uuid, applied.changes) == ("7", ("endpoint 11 removed", "endpoint 12 removed"))
    assert blue.description().endpoints == ()


def test_apply_that_is_refused_changes_nothing(connection: Connection, blue: Network) -> None:
    ends = (BLUE.endpoints[0], Endpoint(uuid=12, switch=77, port=1))
    with pytest.raises(SwitchNotFound):
        connection.apply(BLUE.changed(endpoints=ends))
    assert blue.description() == BLUE
    assert connection.apply(BLUE.changed(endpoints=ends), pending=True).outcome == "changed"
    assert str(blue.state().state) == "degraded"


def test_apply_that_needs_a_path_says_so(connection: Connection) -> None:
    driver = connection.driver
    assert isinstance(driver, TestDriver)
    driver.link_down("1", "2")
    driver.link_down("2", "3")
    with pytest.raises(NoPath):
        connection.apply(BLUE)


def test_the_text_of_a_change_is_bounded() -> None:
    assert change_text(None, BLUE) == change_text(BLUE, None) == change_text(BLUE, BLUE) == ""
    few = BLUE.changed(endpoints=(*BLUE.endpoints, {"uuid": 100, "switch": 9, "port": 100}))
    assert change_text(BLUE, few) == ": endpoint 100 added"
    assert change_text(few, BLUE) == ": endpoint 100 removed"
    ports = [{"uuid": 100 + n, "switch": 9, "port": n + 1} for n in range(2000)]
    many = BLUE.changed(name="x" * 63, endpoints=(*BLUE.endpoints, *ports))
    assert change_text(BLUE, many).endswith("; endpoint 103 added; and 1996 more")
    assert change_text(BLUE, many).count(";") == SHOWN


def test_differences_name_every_part() -> None:
    constraint = Constraint(source=11, destination=12, max_hops=3)
    after = BLUE.changed(name="azure", constraints=(constraint,), rules=Rules(encapsulation="vlan"))
    lines = differences(BLUE, after)
    assert lines[0] == "name: blue -> azure"
    assert lines[1].startswith("rules: None ->")
    assert lines[2:] == ["constraint 11->12 added"]
    assert differences(after, after.changed(constraints=(constraint.changed(max_hops=4),))) == [
        "constraint 11->12 changed"
    ]


# -- events -------------------------------------------------------------------------------------------------


def test_events_are_those_from_the_call_on_and_end_with_the_connection(connection: Connection) -> None:
    connection.create(VirtualNetwork(uuid=7, name="blue"))
    events = connection.events()
    connection.create(VirtualNetwork(uuid=8, name="red"))
    assert (event := next(events)).kind == "network.created"
    assert event.network == "8"
    connection.close()
    assert list(events) == []


def test_events_reach_a_waiting_reader_which_ends_when_the_connection_closes(connection: Connection) -> None:
    events = connection.events()
    seen: list[Event] = []
    first = threading.Event()

    def read() -> None:
        for event in events:
            seen.append(event)
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    connection.create(VirtualNetwork(uuid=8, name="red"))
    first.wait()
    connection.close()
    thread.join()
    assert [(e.kind, e.network) for e in seen] == [("network.created", "8")]


def test_events_in_coroutines() -> None:
    async def story() -> list[str]:
        connection = await aio.open("test:///default")
        events = connection.events()
        await connection.create(BLUE)
        await connection.close()
        return [e.kind async for e in events]

    assert asyncio.run(story()) == ["network.created", "endpoint.state", "endpoint.state"]


def test_the_contract_is_what_the_driver_implements() -> None:
    for name, method in vars(Driver).items():
        if inspect.isfunction(method):
            ours = inspect.signature(getattr(TestDriver, name))
            assert list(ours.parameters) == list(inspect.signature(method).parameters)


def test_a_check_says_what_apply_would_and_changes_nothing(connection: Connection) -> None:
    connection.check(BLUE)
    assert connection.networks() == []
    blue = connection.create(BLUE)
    connection.check(BLUE.changed(name="azure"))
    limited = BLUE.changed(constraints=(Constraint(source=11, destination=12, max_hops=3),))
    with pytest.raises(Unsupported, match=r"constraint\.max-hops"):
        connection.check(limited)
    assert blue.description() == BLUE
