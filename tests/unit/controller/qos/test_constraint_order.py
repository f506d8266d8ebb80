"""The order in which constraints are planned: who gets bandwidth when it is not enough for all."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from libnetvirt.controller.engine.controller import Options
from libnetvirt.errors import ConstraintUnmet
from libnetvirt.model import Constraint, VirtualNetwork
from tests.support.controller_rig import VLAN, Rig, endpoint, line, network, ring

LINKS = 'capacity = "100 Mbit/s"\nreservable = 0.9'
#: the way from switch 1 to switch 2 over switch 3 has room for one of two constraints
DETOUR = f'{LINKS}\n[[link]]\nswitch = 1\nport = "1"\ncapacity = "60 Mbit/s"'
ENDS = (endpoint(1, 1, 3, 1), endpoint(2, 2, 3, 1), endpoint(3, 1, 3, 2), endpoint(4, 2, 3, 2))


def wanted(source: int, destination: int, rate: int, priority: int | None = None) -> Constraint:
    asked: dict[str, Any] = {"source": source, "destination": destination, "min-bandwidth": f"{rate} Mbit/s"}
    if priority is not None:
        asked["priority"] = priority
    return Constraint.model_validate(asked)


def constrained(*constraints: Constraint, uuid: int = 1) -> VirtualNetwork:
    ends = tuple(e.changed(vlan=e.own_vlan + 10 * uuid) for e in ENDS if e.own_vlan is not None)
    return network(uuid, *ends).changed(constraints=constraints)


@pytest.fixture
def rig() -> Rig:
    """Two switches, and 90 Mbit/s between them that may be reserved."""
    rig = Rig(Options(VLAN, capacities=LINKS))
    line(rig, 2)
    return rig


def kept(rig: Rig) -> set[tuple[str, str]]:
    """Source and network of the constraints that have a path."""
    return {(c.key[1], c.key[0]) for c in rig.state.te_paths.ordered() if not c.degraded}


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_what_reserves_less_makes_room_for_what_reserves_more_in_the_same_change(
    rig: Rig, order: tuple[int, ...]
) -> None:
    before = constrained(wanted(1, 2, 60), wanted(3, 4, 20))
    rig.change(None, before)
    # Of higher priority is the one that needs the room.
    after = (wanted(1, 2, 10, 0), wanted(3, 4, 50, 9), wanted(3, 2, 30, 5))
    planned = rig.core.constraints.plan(constrained(*(after[n] for n in order)))
    assert [key[1:] for key in planned] == [after[n].key for n in order], "in the order of the description"
    assert not any(te_path.degraded for te_path in planned.values())


@pytest.mark.parametrize("reverse", [False, True])
def test_of_new_constraints_those_of_higher_priority_are_admitted(rig: Rig, reverse: bool) -> None:
    asked = [wanted(1, 2, 50, 1), wanted(3, 4, 50, 2)]
    after = constrained(*(reversed(asked) if reverse else asked))
    planned = rig.core.constraints.plan(after, strict=False)
    assert {key[1] for key, te_path in planned.items() if not te_path.degraded} == {"3"}
    with pytest.raises(ConstraintUnmet, match="the constraint from 1 to 2 cannot be met"):
        rig.core.constraints.plan(after)


def test_of_equal_priority_the_first_of_the_description_is_admitted(rig: Rig) -> None:
    planned = rig.core.constraints.plan(constrained(wanted(3, 4, 50), wanted(1, 2, 50)), strict=False)
    assert [te_path.degraded == "" for te_path in planned.values()] == [True, False]


@pytest.mark.parametrize(
    ("priorities", "stays"), [((0, 0), "9"), ((1, 0), "9"), ((0, 1), "5"), ((None, 0), "9"), ((2, 2), "9")]
)
def test_after_a_failure_priority_decides_and_then_age(
    priorities: tuple[int | None, int], stays: str
) -> None:
    rig = Rig(Options(VLAN, capacities=DETOUR))
    ring(rig, 3)
    # The network with the greater uuid is the older one.
    for uuid, priority in zip((9, 5), priorities, strict=True):
        rig.change(None, constrained(wanted(1, 2, 40, priority), uuid=uuid))
    assert kept(rig) == {("1", "9"), ("1", "5")}
    # A change of the older network makes none of its constraints younger.
    older = next(one for one in rig.networks if one.uuid == "9")
    rig.change(older, older.changed(constraints=(*older.constraints, wanted(3, 4, 1, 5))))
    assert [te_path.number for te_path in rig.state.te_paths.of("9").values()] == [1, 3]
    rig.cut((1, 2))
    assert ("3", "9") in kept(rig)
    rig.change(next(one for one in rig.networks if one.uuid == "9"), older)
    assert kept(rig) == {("1", stays)}
    rig.cut((1, 2), up=True)
    rig.tick()
    assert kept(rig) == {("1", "9"), ("1", "5")}
