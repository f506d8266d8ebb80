"""What is worked out once for many classes of frames: the same results as if each went rule by rule.

``NETVIRT_VERIFY=N`` tries N random changes of rules with each encapsulation instead of a few.
"""

from __future__ import annotations

import os
from copy import copy
from random import Random

import pytest

from libnetvirt.model import Rules
from tests.support.controller_rig import VLAN
from tests.support.verification.worlds import Tree

MPLS = Rules(encapsulation="mpls", insertion="offline", timeout="permanent")
NATIVE = Rules(encapsulation="native", insertion="offline", timeout="permanent")
ON_DEMAND = Rules(encapsulation="vlan", insertion="on-demand", timeout="permanent")
KINDS = (VLAN, MPLS, NATIVE, ON_DEMAND)
#: changes of rules that are tried with each encapsulation
MUTATIONS = int(os.environ.get("NETVIRT_VERIFY", "0")) or 8


def test_many_networks_are_proved_in_far_fewer_classes_than_rule_by_rule() -> None:
    tree = Tree(7, 4, 5, Random(1), KINDS)
    quick, slow = tree.verifier(), tree.verifier(rule_by_rule=True)
    assert quick.findings == slow.findings == []
    assert 0 < quick.classes < slow.classes


@pytest.mark.parametrize(
    "rules", [VLAN, MPLS, NATIVE, ON_DEMAND], ids=["vlan", "mpls", "native", "on-demand"]
)
def test_changed_rules_break_the_same_properties_as_rule_by_rule(rules: Rules) -> None:
    chance = Random(f"{rules} {MUTATIONS}")
    tree = Tree(4, 2, 2, chance, [rules])
    dumps, broken = tree.dumps, 0
    for _ in range(MUTATIONS):
        tree.dumps = {number: copy(dump) for number, dump in dumps.items()}
        for dump in tree.dumps.values():
            dump.flows = list(dump.flows)
        what = tree.mutate(chance)
        quick, slow = tree.verifier(), tree.verifier(rule_by_rule=True)
        assert {f.property for f in quick.findings} == {f.property for f in slow.findings}, what
        # Each is shown with the rules that it meets.
        assert all(f.steps for f in quick.findings if not f.unknown)
        broken += bool(quick.findings)
    assert broken
