"""Commits to the northbound database, and waiting for chassis; the databases answer as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from libnetvirt.driver import Change
from libnetvirt.drivers.ovn import transactions as module
from libnetvirt.drivers.ovn.realisation import Realisation
from libnetvirt.drivers.ovn.transactions import MAX_TOKENS, TOKENS, Transactions
from libnetvirt.errors import ConnectionFailed, EndpointClaimed, PortNotFound, RuleRefused, SwitchTimeout
from libnetvirt.model import VirtualNetwork
from libnetvirt.ovsdb.database import Interrupted, Operation, Refused
from tests.unit.drivers.ovn.deployment import Deployment

#: one thing that the database does with a transaction, or raises
Answer = Callable[[], None] | Exception
PLAN: list[Operation] = [{"op": "comment", "comment": "the plan"}]
LONG, SHORT = 1000.0, 0.01


class Northbound(Deployment):
    """Does the next of ``answers`` with each transaction, and then commits."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = []
        self.databases.northbound.transact = self._commit  # type: ignore[assignment,method-assign]

    async def _commit(self, operations: Any, _: float) -> list[Any]:
        self.written.append(list(operations))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            answer()
        return self.commit_it()

    def commit_it(self) -> list[Any]:
        """What the last transaction asks for."""
        steps = [m[2] for o in self.written[-1] for m in o.get("mutations", ()) if m[0] == "nb_cfg"]
        if not steps:  # a record of a silent chassis, which this session knows by itself
            return []
        number = self.row["nb_cfg"] + steps[0]
        self.nb_global(nb_cfg=number, external_ids={**self.row["external_ids"], TOKENS: self.tokens_sent})
        return [*({} for _ in self.written[-1][1:]), {"rows": [{"nb_cfg": number}]}]

    @property
    def row(self) -> dict[str, Any]:
        return self.databases.northbound.tables["NB_Global"]["nb"]

    @property
    def tokens_sent(self) -> str:
        """The tokens that the last transaction writes."""
        mark = next(o for o in self.written[-1] if "nb_cfg" in [m[0] for m in o.get("mutations", ())])
        ((_, how, (_, ((key, tokens),))),) = [m for m in mark["mutations"] if m[1] == "insert"]
        assert (how, key) == ("insert", TOKENS)
        return str(tokens)

    @property
    def tokens_seen(self) -> str:
        """The tokens that the last transaction waits for."""
        wait = next(o for o in self.written[-1] if o["op"] == "wait")
        assert (wait["until"], wait["timeout"], wait["rows"]) == ("!=", 0, [])
        ((_, _, (_, ((_, tokens),))),) = [c for c in wait["where"] if c[0] == "external_ids"]
        return str(tokens)


@pytest.fixture
def ovn() -> Northbound:
    return Northbound()


def commit(
    ovn: Northbound, plan: Callable[[], Sequence[Operation]] = lambda: PLAN, within: float = LONG
) -> int:
    return asyncio.run(Transactions(ovn.databases.northbound, within).commit(plan))


# ---- transactions ----------------------------------------------------------------------------------


def test_a_transaction_waits_for_what_its_client_has_seen_and_adds_a_token(ovn: Northbound) -> None:
    ovn.nb_global(nb_cfg=41, external_ids={"of": "others"})
    assert commit(ovn) == 42
    first = ovn.row["external_ids"][TOKENS]
    assert (ovn.tokens_seen, ovn.tokens_sent) == ("", first)
    assert [o["op"] for o in ovn.written[0]] == ["mutate", "wait", "comment", "mutate", "select"]
    assert commit(ovn) == 43
    assert ovn.tokens_seen == first
    assert ovn.tokens_sent.split()[:1] == [first]
    assert [o["op"] for o in ovn.written[1]] == ["wait", "comment", "mutate", "select"]
    assert len(set(ovn.tokens_sent.split())) == 2
    assert ovn.row["external_ids"]["of"] == "others"


def test_the_latest_tokens_are_kept(ovn: Northbound) -> None:
    tokens = [f"t{n}" for n in range(MAX_TOKENS)]
    ovn.nb_global(external_ids={TOKENS: " ".join(tokens)})
    commit(ovn)
    assert ovn.tokens_sent.split()[:-1] == tokens[1:]
    assert len(ovn.tokens_sent.split()) == MAX_TOKENS


def test_if_another_client_was_faster_the_plan_is_made_again(ovn: Northbound) -> None:
    plans: list[str] = []

    def plan() -> list[Operation]:
        plans.append(ovn.row["external_ids"].get(TOKENS, ""))
        return PLAN

    def other() -> None:
        ovn.nb_global(nb_cfg=7, external_ids={TOKENS: "other"})
        raise Refused("timed out", "the wait")

    ovn.answers = [other]
    assert commit(ovn, plan) == 8
    assert plans == ["", "other"]
    assert ovn.tokens_sent.split()[0] == "other"


def test_what_was_committed_before_the_session_broke_is_not_committed_again(ovn: Northbound) -> None:
    def commits_and_breaks() -> None:
        ovn.commit_it()
        raise Interrupted("the session broke")

    ovn.answers = [Interrupted("the session broke"), commits_and_breaks]
    assert commit(ovn) == 1
    assert len(ovn.written) == 2


@pytest.mark.parametrize(
    ("refusal", "error", "text"),
    [
        (Refused("constraint violation", "Logical_Switch_Port name"), EndpointClaimed, "created by another"),
        (Refused("constraint violation", "Logical_Router name"), RuleRefused, "rejected the change"),
        (Refused("syntax error", "Logical_Switch_Port"), RuleRefused, "22.03 or later"),
    ],
)
def test_a_rejected_transaction_is_not_tried_again(
    ovn: Northbound, refusal: Refused, error: type[Exception], text: str
) -> None:
    ovn.answers = [refusal]
    with pytest.raises(error, match=text):
        commit(ovn)
    assert len(ovn.written) == 1


def test_a_database_that_never_commits_is_a_failed_connection(
    ovn: Northbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPLY_TIMEOUT", SHORT)
    ovn.answers = [Refused("timed out", "")] * 1000
    with pytest.raises(ConnectionFailed, match=r"within 0.05 s \(other clients were faster\)"):
        commit(ovn, within=0.05)


def test_a_database_without_its_global_row_is_not_initialised(ovn: Northbound) -> None:
    ovn.databases.northbound.tables["NB_Global"].clear()
    with pytest.raises(ConnectionFailed, match="ovn-nbctl init"):
        commit(ovn)


# ---- realisation -----------------------------------------------------------------------------------

BLUE = VirtualNetwork.model_validate(
    {"uuid": 7, "name": "blue", "endpoints": [
        {"uuid": 1, "switch": "ch1", "port": "p1"}, {"uuid": 2, "switch": "ch2", "port": "p1", "vlan": 5}]}
)  # fmt: skip


class Lab(Northbound):
    """Chassis that confirm everything, and bind the ports of ``binds`` when a change is waited for."""

    def __init__(self, confirm: float = LONG, bind: float = LONG) -> None:
        super().__init__()
        self.interfaces("p1")
        self.realisation = Realisation(self.databases, confirm, bind)
        self.confirmed: list[int] = []

    def report(self, number: int, *chassis: int) -> None:
        self.confirmed.append(number)
        for n in chassis:
            self.sb("Chassis_Private", f"x{n}", name=f"ch{n}", nb_cfg=number)

    def commit_it(self) -> list[Any]:
        found = super().commit_it()
        if found:
            self.report(self.row["nb_cfg"], 1, 2)
        return found


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_change_is_in_force_when_all_chassis_have_it_all_ports_are_up_and_all_know_where() -> None:
    async def story() -> None:
        lab = Lab()
        lab.change(None, BLUE)
        task = asyncio.create_task(lab.realisation.wait(Change(None, BLUE), 5))
        await _turns()
        lab.report(5, 1)
        await _turns()
        lab.bind(BLUE, "1")
        await _turns()
        assert not task.done(), "ch2 has not confirmed"
        lab.report(5, 2)
        await _turns()
        assert not lab.written, "its port is not up"
        lab.bind(BLUE, "2", up=False)
        await _turns()
        assert not lab.written
        lab.bind(BLUE, "2")
        await task
        assert len(lab.written) == 1, "a second nb_cfg: all chassis know where the ports are"
        assert lab.confirmed[-1] == 6, "above all that was reported before"

    asyncio.run(story())


def test_a_removal_is_in_force_when_the_chassis_have_it() -> None:
    async def story() -> None:
        lab = Lab()
        task = asyncio.create_task(lab.realisation.wait(Change(BLUE, None), 5))
        await _turns()
        lab.report(4, 1, 2)
        await _turns()
        assert not task.done()
        lab.report(5, 1, 2)
        await task
        assert not lab.written

    asyncio.run(story())


def test_chassis_that_do_not_confirm_are_named() -> None:
    async def story() -> None:
        lab = Lab(confirm=SHORT)
        lab.report(5, 1)
        lab.report(3, 2)
        wait = lab.realisation.wait_applied
        with pytest.raises(SwitchTimeout, match=r"^ovn-northd did not confirm .* Is it running"):
            await wait((BLUE,), 5, {"ch2"})
        lab.nb_global(nb_cfg=5, sb_cfg=5)
        assert not lab.databases.silence.chassis(), "northd was late, not the chassis"
        with pytest.raises(
            SwitchTimeout, match=r"^chassis ch2 did not confirm .* Is ovn-controller there run"
        ):
            await wait((BLUE,), 5, {"ch2"})
        assert await wait((BLUE.without_endpoint("2"),), 5, {"ch1"})
        far = BLUE.changed(endpoints=[e.changed(switch="ch9") for e in BLUE.endpoints])
        assert not await wait((far,), 5), "no chassis is there to confirm it"
        with pytest.raises(SwitchTimeout, match=r"^ovn-northd did not confirm"):
            await wait((far,), 6)

    asyncio.run(story())


def test_a_chassis_that_did_not_confirm_is_silent_until_it_reports_another_number() -> None:
    async def story() -> None:
        lab = Lab(confirm=SHORT)
        lab.report(5, 1)
        lab.report(3, 2)
        lab.nb_global(nb_cfg=5, sb_cfg=5)
        silence, wait = lab.databases.silence, lab.realisation.wait_applied
        assert await wait((BLUE, None), 5), "the change does not need it"
        assert list(silence.chassis()) == ["ch2"]
        ((written,),) = lab.written
        assert written["mutations"][1][2] == ["map", [["netvirt:silent:ch2", "3"]]]
        lab.written.clear()
        assert await wait((BLUE,), 5, {"ch1", "ch2"}), "it is not waited for any more"
        with pytest.raises(SwitchTimeout, match=r"^chassis ch2 does not confirm changes"):
            lab.realisation.check_silent(Change(None, BLUE))
        lab.realisation.check_silent(Change(None, BLUE, pending=True))
        lab.realisation.check_silent(Change(BLUE, None))
        lab.realisation.check_silent(Change(BLUE, BLUE.without_endpoint("2")))
        # Another session reads the record.
        other = Lab(confirm=SHORT)
        other.report(5, 1)
        other.report(3, 2)
        other.nb_global(nb_cfg=5, external_ids={"netvirt:silent:ch2": "3", "netvirt:silent:ch9": "1"})
        assert list(other.databases.silence.chassis()) == ["ch2"]
        assert other.databases.silence.ended() == ["netvirt:silent:ch9"]
        for one in (lab, other):
            one.report(4, 2)
            assert list(one.databases.silence.chassis()) == []
        assert other.databases.silence.ended() == ["netvirt:silent:ch2", "netvirt:silent:ch9"]
        assert not lab.written

    asyncio.run(story())


@pytest.mark.parametrize("pending", [False, True])
def test_a_port_that_is_not_bound_is_not_found_unless_it_may_be_pending(pending: bool) -> None:
    async def story() -> None:
        lab = Lab(bind=SHORT)
        lab.change(None, BLUE)
        lab.report(5, 1, 2)
        lab.bind(BLUE, "1")
        change = Change(None, BLUE, pending=pending)
        if pending:
            await lab.realisation.wait(change, 5)
            return
        with pytest.raises(PortNotFound, match=r"endpoint 2: chassis ch2 did not bind p1 .*iface-id=ch2:p1"):
            await lab.realisation.wait(change, 5)

    asyncio.run(story())


def test_an_endpoint_whose_interface_is_absent_is_not_waited_for() -> None:
    async def story() -> None:
        lab = Lab(bind=SHORT)
        lab.interfaces("other")
        lab.change(None, BLUE)
        lab.report(5, 1, 2)
        lab.bind(BLUE, "2")
        await lab.realisation.wait(Change(None, BLUE), 5)

    asyncio.run(story())


def test_iface_ids_follow_endpoints() -> None:
    async def story() -> None:
        lab = Lab()
        lab.interfaces("p1", "p2", "p3")
        real = lab.iface_ids

        def last() -> list[tuple[str, str]]:
            return [(o["where"][0][2][1], o["mutations"][-1][1]) for o in lab.written.pop()]

        await real.set(BLUE, ["1", "2"])
        assert last() == [("i-p1", "insert")]
        await real.set(BLUE, ["2"])
        await real.set(None, ["1"])
        assert lab.written == [], "of ch2 no database is known"
        lab.change(None, BLUE)
        await real.set_pending("ch1")
        assert last() == [("i-p1", "insert")]
        for name in ("p1", "p2"):
            lab.interface(name, external_ids={"iface-id": f"ch1:{name}", "netvirt:owner": "libnetvirt"})
        await real.clear([("ch1", "p1"), ("ch1", "p2"), ("ch2", "p2")])
        assert last() == [("i-p2", "delete")]
        assert await real.clear_unused() == ["removed the unused iface-id of interface p2 of chassis ch1"]
        assert last() == [("i-p2", "delete")]
        lab.vswitch.db.trouble = "gone"
        await real.clear([("ch1", "p2")])
        await real.set_pending("ch1")
        assert await real.clear_unused() == []
        assert lab.written == []
        lab.vswitch.db.trouble = ""
        await real.clear_postponed("ch1")
        assert last() == [("i-p2", "delete")], "once the database is back"
        with real.hold(BLUE.changed(endpoints=[{"uuid": 1, "switch": "ch1", "port": "p2"}]), ["1"]):
            await real.clear([("ch1", "p2")])
        assert lab.written == [], "another operation is about to use it"

    asyncio.run(story())
