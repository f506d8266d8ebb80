"""The report of a verification, from what it has found."""

from __future__ import annotations

from libnetvirt.model.verification import Counterexample, Verification, VerifiedHop, VerifiedProperty
from libnetvirt.openflow import port_text
from libnetvirt.verification.forwarding import Step
from libnetvirt.verification.verify import PROPERTIES, Finding, Verifier


def report(verifier: Verifier, networks: int, seconds: float) -> Verification:
    """What was found. ``networks``: how many were verified; ``seconds``: how long it took."""
    broken = {finding.property: finding for finding in reversed(verifier.findings)}
    properties = tuple(_property(name, broken.get(name)) for name in PROPERTIES)
    return Verification(
        proved=not broken,
        properties=properties,
        counterexamples=tuple(_counterexample(f) for f in verifier.findings if not f.unknown),
        networks=networks,
        switches=len(verifier.switches),
        rules=sum(len(switch.flows) for switch in verifier.switches.values()),
        classes=verifier.classes,
        seconds=round(seconds, 3),
    )


def _property(name: str, finding: Finding | None) -> VerifiedProperty:
    reason = ""
    if finding is not None and finding.unknown:
        reason = f"cannot be told: {finding.text}"
        if finding.frame:
            reason += f" (a frame at switch {finding.at[0]} port {port_text(finding.at[1])}: {finding.frame})"
    return VerifiedProperty(name=name, meaning=PROPERTIES[name], proved=finding is None, reason=reason)


def _counterexample(finding: Finding) -> Counterexample:
    switch, port = finding.at[0], port_text(finding.at[1])
    return Counterexample(
        property=finding.property,
        network=finding.network,
        switch=switch,
        port=port,
        frame=finding.frame,
        wire=finding.wire.hex(),
        hops=tuple(_hop(step) for step in finding.steps),
        wrong=finding.text,
        remedy=f"on switch {switch}, 'ovs-appctl ofproto/trace BRIDGE in_port={port} FRAME' shows what it "
        "does with the frame. 'netvirt repair' restores rules that another program has changed; if there are "
        "none, please report this",
    )


def _hop(step: Step) -> VerifiedHop:
    rule = "no rule: dropped" if step.rule is None else step.rule.text
    return VerifiedHop(switch=step.switch, in_port=port_text(step.in_port), table=step.table, rule=rule)
