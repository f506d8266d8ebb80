"""Why targets are not met, as far as it is known, and what is next.

The page shows a text only for targets that the run shown does not meet. The texts have no figures: those are
in the tables of the same run.
"""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.rows import Row

UNKNOWN = "**Not examined yet.**"


class Reason(NamedTuple):
    """The text for a row of this scenario whose name and bar contain these words."""

    scenario: str
    name: str
    bar: str
    text: str


#: the first that fits counts
REASONS = (
    Reason(
        "setup", "set-ups", "≥ 50×",
        "**50 times the set-up rate of os-ken.** Most of a set-up is Python, the rest reading, writing "
        "and waiting for the emulated switches; with hosts in the thousands the lookups do not hit the "
        "processor's cache. Next: less allocated for each set-up, and the session's loop among what is "
        "compiled.",
    ),
    Reason(
        "setup", "set-ups", "",
        "**Set-up rate.** Each pair is new and its hosts were not used for thousands of set-ups, so that "
        "every lookup misses the processor's cache, and each set-up allocates its pair, its rules and its "
        "messages. Next: flow templates for a host instead of a pair, one pass from bytes to bytes, "
        "messages batched for each switch.",
    ),
    Reason(
        "setup", "latency", "",
        "**Latency with one set-up outstanding.** It consists mostly of two processes that wake each "
        "other, as the ceiling shows, and of one turn of asyncio's event loop. Next: uvloop in a plain "
        "installation.",
    ),
    Reason(
        "networks", "instead of", "",
        "**Adding and removing one endpoint in a large network.** A client of `netvirt serve` reads the "
        "whole description and sends the changed one back, so the bytes grow with the network, while the "
        "messages to switches do not. Next: changes of one endpoint as such in the interface of the "
        "server.",
    ),
    Reason(
        "networks", "remove a network", "",
        "**Removal beside the resident loader.** The loader deletes each network with one message, and "
        "has nothing to plan, to store or to confirm in stages. libnetvirt deletes in an order in which "
        "no frame goes astray, waits for each stage, and commits to its state file. Next: plan removals "
        "from cookies instead of single rules.",
    ),
    Reason(
        "networks", "create a network", "",
        "**Creation beside the resident loader.** The loader sends bytes encoded beforehand. libnetvirt "
        "reads and validates the description, plans and encodes every rule in Python, and commits twice "
        "to its state file. Next: rules encoded from templates, and planning while the first switches "
        "already load theirs.",
    ),
    Reason(
        "ovn", "", "",
        "**OVN beside a resident ovn-nbctl.** Both write the same rows and wait for the same `sb_cfg`. "
        "libnetvirt also validates and reads back what it wrote, in Python, and is asked through a "
        "socket. Next: less work for each row in the client of the database.",
    ),
    Reason(
        "recovery", "reroute", "",
        "**Reroute.** All tunnels change direction, so each gets a new label, and with it new groups and "
        "rules in every switch of its path, so that no frame is lost. Most of the time goes into sending "
        "them and waiting for the replies. Next: new labels only for the branch that changes.",
    ),
    Reason(
        "prototype", "under a flood", "",
        "**Set-up times under a flood.** The victim's frame waits in its connection behind frames of the "
        "flood, each of which is at least read and counted, and the loads of both run on the same core. "
        "Next: meters in the switch that keep a flood out of the connection.",
    ),
    Reason(
        "verification", "prove all rules", "≤ 5 s",
        "**The proof of 50,000 rules.** Most of the time goes into the classes of frames of each network: "
        "each is followed through the tables of its switches, in Python. Next: keep what was proved, and "
        "prove again only what a change touches.",
    ),
    Reason(
        "growth", "by hops", "",
        "**A set-up over many switches.** All emulated switches run on one core, so paths of neighbouring "
        "lengths differ by less than the trials vary, and the interval of the last two lengths is wide.",
    ),
    Reason(
        "growth", "parse", "",
        "**Documents of 10,000 endpoints.** The largest documents do not fit the processor's cache, which "
        "a virtual machine shares with others. Next: the same measurement on a dedicated machine.",
    ),
    Reason(
        "growth", "write", "",
        "**Documents of 10,000 endpoints.** The largest documents do not fit the processor's cache, which "
        "a virtual machine shares with others. Next: the same measurement on a dedicated machine.",
    ),
    Reason(
        "growth", "", "",
        "**Growth that is not shown to stay below n log n.** The trials of this run vary so much that the "
        "interval of the exponent reaches above it, or the cost does grow faster between the largest "
        "sizes. Next: more trials.",
    ),
)  # fmt: skip


def of(row: Row) -> str:
    """The text for a row whose target is not met."""
    for one in REASONS:
        if row.scenario == one.scenario and one.name in row.name and one.bar in row.bar:
            return one.text
    return UNKNOWN
