"""Verification: all rules of many networks are proved, by the number of rules."""

from __future__ import annotations

import time
from random import Random

from benchmarks.rows import Plan, Row
from libnetvirt.verification.verify import Verifier
from tests.support.verification.worlds import Tree

_SWITCHES, _HOSTS = 20, 8
#: networks of so many hosts; the most have more than 50,000 rules
_NETWORKS = (4, 40, 120, 340)
_LIMIT, _RULES = 5.0, 50_000


def rows(plan: Plan) -> list[Row]:
    """A row for each number of networks."""
    found: list[Row] = []
    for count in (4,) if plan.smoke else (4, 40, 340) if plan.quick else _NETWORKS:
        if found and plan.late(f"verification: {count} networks"):
            break
        plan.say(f"verification: {count} networks of {_HOSTS} hosts on {_SWITCHES} switches")
        tree = Tree(_SWITCHES, count, _HOSTS, Random(count))
        times, verifier = [], None
        for _ in range(1 if plan.smoke else 3):
            began = time.process_time()
            verifier = tree.verifier()
            times.append(time.process_time() - began)
        assert isinstance(verifier, Verifier)
        if verifier.findings:
            plan.fail(f"verification: {verifier.findings[0].text}")
        row = Row.of("verification", "prove all rules", {"rules": tree.size}, "s", times)
        row.measured = {"classes": verifier.classes}
        row.note = (
            f"Networks of {_HOSTS} hosts on {_SWITCHES} switches; processor time, without reading these."
        )
        if tree.size >= _RULES:
            row.at_most(f"≤ {_LIMIT:g} s for {_RULES:,} rules", row.ours, _LIMIT * tree.size / _RULES)
        found.append(row)
    return found
