"""What the pages say is what the sources hold: numbers, features, commands, and the tests that pages name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from libnetvirt import events
from libnetvirt.cli import show, substrate
from libnetvirt.configuration.events import EventsSettings
from libnetvirt.controller.dataplane import pipeline
from libnetvirt.controller.engine import cache_checks, transaction, tunnel_checks
from libnetvirt.controller.intent import locator, neighbours, switches
from libnetvirt.controller.intent.facts import LABELS
from libnetvirt.controller.ondemand import flow_templates, flows
from libnetvirt.controller.packetin import deferral, dispatcher, fair_queue, neighbour_resolution
from libnetvirt.controller.qos import capacities, meters, te_paths
from libnetvirt.controller.rules.encapsulation import TUNNELLINGS
from libnetvirt.controller.topology import discovery, latency, link_probes
from libnetvirt.daemon import bodies, broadcast, event_log, http_protocol, warnings, webhooks, wire
from libnetvirt.driver import DRIVERS, installed, load
from libnetvirt.drivers.openflow.execution import audit, fair_lock, pair_audit
from libnetvirt.drivers.openflow.southbound import backoff, claims, owners, session, tls
from libnetvirt.drivers.ovn import compiler
from libnetvirt.formats import limits
from libnetvirt.model import Encapsulation, cross_checks, differences
from libnetvirt.openflow import channel
from libnetvirt.ovsdb import database
from libnetvirt.uri import URI

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VLAN, MPLS = TUNNELLINGS[Encapsulation.VLAN].overhead, TUNNELLINGS[Encapsulation.MPLS].overhead
MIB = 2**20
_IN_WORDS = dict(
    enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"))
)
_IN_WORDS.update({12: "twelve", 15: "fifteen", 16: "sixteen"})


def words(number: float) -> str:
    """A small number as pages write it."""
    return _IN_WORDS[int(number)]


#: What pages say with the numbers of the sources: a number that is changed in one place only fails.
SAID = {
    "README.md": (
        f"an MTU at least {words(VLAN)} bytes larger than the hosts' 1500",
        f"an MTU of {1500 + VLAN} or more",
    ),
    "docs/architecture.md": (
        f"(256, {words(tls.HANDSHAKE_TIMEOUT)} seconds each)",
        f"packets that wait for a neighbour ({neighbours.QUEUE_LIMIT}, and "
        f"{neighbours.NETWORK_QUEUE_LIMIT:,} in a network)",
        f"heads of packet-ins that are remembered ({channel.MAX_CACHED_HEADS:,} a switch)",
        f"frames that wait for a path ({flows.QUEUE_LIMIT})",
        f"frames that wait for an operation ({deferral.SOURCE_LIMIT} an endpoint",
        f"({events.LIMIT:,} events each; of a server {broadcast.KEPT:,} in memory for all readers and "
        f"{EventsSettings().keep:,} in its log",
        f"ports of a switch ({switches.MAX_PORTS:,})",
        f"bytes that a switch leaves unread ({session.WRITE_LIMIT // MIB} MiB",
        f"entries of switches that are read again ({audit.RATE:,} a second)",
        f"a network has {fair_queue.QUANTUM} frames served (the quantum)",
        f"its network one of {words(dispatcher.NETWORK_FACTOR)} times the rate",
        f"An old path is removed {transaction.LINGER:g} s after its replacement",
        f"Rules behind the first switch live {flow_templates.GRACE} s longer",
        f"flood groups hold {pipeline.FLOOD_CHUNK} endpoints each",
        f"at most once in {words(owners.MARK_INTERVAL)} seconds, when no transaction",
        f"a rule that lasts {words(dispatcher.QUIET_TIME)} seconds keeps",
        f"is cut off in the switch for {'a' if neighbour_resolution.QUIET_TIME == 1 else '?'} second",
    ),
    "docs/cli.md": (
        f"at most {words(warnings.RATE)} lines a second",
        f"more than {events.LIMIT:,} behind with a driver of its own, and what is no longer in the",
        f"{http_protocol.HEAD_TIMEOUT:g} s for the head of a request",
        f"one for each {bodies.SLOWEST // 1024} KiB",
        f"A body may have {wire.MAX_BODY // MIB} MiB",
        f"all bodies in memory together {bodies.MAX_BODIES // MIB} MiB",
        f"a network with more than {words(show._FEW)} endpoints",
        f"the first {words(differences.SHOWN)} of them",
        f"for {'half a second' if substrate._SETTLED == 0.5 else '?'}",
    ),
    "docs/description.md": (
        f"UTF-8 and at most {limits.MAX_BYTES // MIB} MiB",
        f"up to {limits.MAX_NETWORKS:,} networks",
        f"at most {cross_checks.MAX_ENDPOINTS:,}; each",
        f"up to {limits.MAX_FAULTS:,} of them",
        f"nested deeper than {limits.MAX_DEPTH} levels",
        f"aliases that repeat more than {limits.MAX_ALIASED:,} values",
        f"may be at most {limits.MAX_YAML // MIB} MiB long",
    ),
    "docs/drivers/openflow-rules.md": (
        f"with vlan, {LABELS[Encapsulation.VLAN].stop - LABELS[Encapsulation.VLAN].start:,} tunnels, and "
        f"{LABELS[Encapsulation.VLAN].stop - LABELS[Encapsulation.VLAN].start:,} networks at each switch",
        f"with mpls, {LABELS[Encapsulation.MPLS].stop - LABELS[Encapsulation.MPLS].start:,} of each",
        f"rules last {flow_templates.GRACE} seconds longer",
        f"An endpoint can have {flows.PAIR_LIMIT:,} pairs",
        f"stays for {transaction.LINGER:g} s after the operation",
        f"mpls takes {MPLS} bytes of the links' MTU, vlan {VLAN}",
        f"With a link MTU of {1500 + MPLS} or more",
    ),
    "docs/drivers/ovn.md": (
        f"within {database.BACKOFF[0] * 1000:g} to {database.BACKOFF[-1] * 1000:g} ms",
        f"a burst of a {'tenth' if compiler._BURSTS_PER_SECOND == 10 else '?'} of a second's traffic, "
        f"and at least {compiler._MIN_BURST} kbit",
    ),
    "docs/events.md": (
        f"Otherwise its last {broadcast.KEPT:,} events are kept, in memory",
        f"at least the last {EventsSettings().keep:,} events, and none older than "
        f"{EventsSettings().days} days",
        f"Events are written within {event_log.BATCH:g} s",
        f"one event or up to {webhooks.EVENTS}, in the order",
        f"sent again after {webhooks.RETRY:g} s, twice as long after each further failure, "
        f"{webhooks.RETRY_MAX / 60:g} minutes at most",
    ),
    "docs/guarantees.md": (
        f"{audit.RATE:,} a second are read",
        f"read every {pair_audit.ROUND_TIME:g} s",
        f"or {claims.ANSWER_TIMEOUT:g} s when the first is slow to answer",
        f"{words(discovery.MISSED)} `lldp-interval`s after the last frame",
        f"{words(link_probes.PASSED_ROUNDS)} rounds of probes that pass",
        f"up to {link_probes.PASSED_LIMIT}",
        f"confirmed by {words(link_probes.LOST_ROUNDS)} rounds",
        f"unless one was seen to pass within {tunnel_checks.FRESH:g} s",
        f"at most once in {owners.MARK_INTERVAL:g} s",
        f"asks about its role every {session.ROLE_INTERVAL:g} s",
        f"the old place delivers for {transaction.LINGER:g} s longer",
        f"then every {cache_checks.AGAIN:g} s",
    ),
    "docs/l3.md": (
        f"(1500 − {VLAN} = {1500 - VLAN}); an MPLS tunnel adds {MPLS}",
        f"A switch needs {words(pipeline.ROUTING_TABLES)} flow tables",
        f"up to {words(neighbour_resolution.PROBES)} times within "
        f"{words(neighbour_resolution.PROBES * neighbour_resolution.INTERVAL)} seconds",
        f"Up to {neighbours.QUEUE_LIMIT} packets wait for it "
        f"({neighbours.NETWORK_QUEUE_LIMIT:,} in a network)",
        f"up to {locator.HOST_LIMIT:,} neighbours",
    ),
    "docs/qos.md": (
        f"Bursts pass: of {meters.BURST:g} seconds' worth of traffic, and of at least "
        f"{meters.MIN_BURST} kbit ({meters.MIN_BURST // 8} kB)",
        f"a rate below {meters.MIN_BURST / meters.BURST / 1000:g} Mbit/s is exceeded for longer: at "
        f"100 kbit/s, the burst is what may be sent in {words(meters.MIN_BURST / 100)} seconds",
        f"{words(latency.PROBES)} probes are sent over each direction",
        f"the median of the last {words(latency.ROUNDS)} results",
        f"More than {latency.LINKS_PER_ROUND} directions are measured in turn",
        f"It counts once, within {latency.PROBE_TIMEOUT:g} seconds",
        f"exceed the bound by {100 // te_paths.LATENCY_SLACK} % or by "
        f"{te_paths.MIN_LATENCY_SLACK / 1000:g} ms",
        f"at most {capacities.MAX_RESERVABLE}",
        f"Its rate is {float(capacities.USABLE):.0%} of the capacity".replace("%", " %"),
        f"Meters have the numbers {pipeline.METERS.start} to {pipeline.METERS.stop - 1}",
        f"Rates below {meters.STEP // 1000} kbit/s",
    ),
    "docs/state.md": (
        f"asked again every {words(owners.RECHECK)} seconds",
        f"at most once in {words(owners.MARK_INTERVAL)} seconds, and when the controller is stopped",
        f"asks about its role every {words(session.ROLE_INTERVAL)} seconds",
    ),
    "docs/switches.md": (
        f"has fewer than {words(pipeline.SWITCHING_TABLES)} tables is rejected",
        f"{words(pipeline.SWITCHING_TABLES)} flow tables with metadata between them; "
        f"{words(pipeline.ROUTING_TABLES)} for",
        f"{words(pipeline.Table.STRIP + 1)} for `outbound` limits",
        f"{words(pipeline.Table.PRIORITY + 1)}, and Open vSwitch, for frames with a priority tag",
        f"lets {pipeline.LLDP_RATE} a second up",
        f"at least {1500 + VLAN}, or {1500 + MPLS} with MPLS",
        f"prints, {1500 - VLAN} or {1500 - MPLS}",
        f"up to {link_probes.PASSED_LIMIT}, if it failed before",
        f"for {words(backoff.INITIAL)} second, and for twice as long after each further failure, up to "
        f"{'a minute' if backoff.MAXIMUM == 60 else '?'}",
        f"answers an echo request within {claims.ANSWER_TIMEOUT:g} s",
        f"at most {'an eighth' if fair_lock.OPERATION_SHARE == 1 / 8 else '?'} of `confirm-timeout`",
        f"repaired {words(audit.BURST)} times in a row at most, then once in "
        f"{words(audit.REPAIR_TIME)} seconds",
        f"are read every {words(pair_audit.ROUND_TIME)} seconds",
        f"reads {audit.RATE:,} entries a second at most",
        f"more than {audit.FEW_PAIRS:,} rules of pairs",
        f"kept for another {transaction.LINGER:g} s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("page", SAID)
def test_numbers_on_pages_are_those_of_the_sources(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    assert [said for said in SAID[page] if said not in text] == []


def test_tests_that_pages_name_exist() -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "src/libnetvirt/conformance").rglob("*.py")]
    defined = {
        name for path in sources for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    files = {path.name for path in sources}
    named = 0
    for page in PAGES:
        for word in re.findall(
            r"(?<![\w/])(tests/[\w/]+(?:\.py)?|test_\w+(?:\.py)?)(?![\w-])", page.read_text()
        ):
            where = f"{page.name}: {word}"
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), where
            elif word.endswith(".py"):
                assert word in files or word == "test_panel.py", where
            elif word not in ("test_driver", "test_it"):
                assert word in defined or f"{word}.py" in files, where
            named += 1
    assert named > 20


#: rows of the table in README.md that say yes or no of a driver's features
ROWS = {
    "L2 networks (one virtual switch)": ["forwarding.L2"],
    "L3 networks (one virtual router)": ["forwarding.L3"],
    "untagged and VLAN endpoints, several networks on one port": ["tag.vlan"],
    "endpoints with an MPLS label, which carries whole Ethernet frames": ["tag.mpls"],
    "VLAN tunnels, rules installed before the traffic": ["encapsulation.vlan"],
    "[limits and guarantees](docs/qos.md) of bandwidth, latency, hops": [
        "endpoint.limits", "constraint.min-bandwidth", "constraint.max-bandwidth", "constraint.max-latency",
        "constraint.max-hops",
    ],
    "networks survive the process": ["durable"],
}  # fmt: skip


def test_the_table_of_drivers_in_the_readme_is_what_they_offer() -> None:
    text = (ROOT / "README.md").read_text()
    rows = {
        cells[0]: cells[1:]
        for cells in re.findall(r"^\| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    }
    drivers = [name.strip("`") for name in rows[""]] if "" in rows else ["openflow", "ovn", "test"]
    assert sorted(drivers) == sorted(installed(DRIVERS))
    for label, features in ROWS.items():
        for driver, cell in zip(drivers, rows[label], strict=True):
            offered = load(URI(driver)).offers().features
            assert (cell == "yes") is (offered >= set(features)), (label, driver, cell)
            if cell == "no":
                assert not offered & set(features), (label, driver, cell)
