"""The capabilities of the test driver, and why the other features are not supported."""

from __future__ import annotations

from libnetvirt.driver import FEATURES, Capabilities

_NOT_OFFERED = {
    "endpoint.limits": "simulated links have no bandwidth",
    "endpoint.storm": "simulated links have no rates",
    "ownership": "no other controller can use the simulated switches",
    "reload": "there is no file with the capacities of links",
    "repair": "nothing else can change the simulated switches",
    "verify": "simulated switches have no rules",
    "rules": "simulated switches have no rules",
    **{
        name: "simulated links have no bandwidth or latency"
        for name in FEATURES
        if name.startswith("constraint.")
    },
    **{
        name: "simulated frames are not encapsulated, so the option has no effect"
        for name in FEATURES
        if name.startswith("encapsulation.")
    },
}
_NOT_DURABLE = dict.fromkeys(("durable", "backup"), "open it with state=PATH")


def build_capabilities(*, durable: bool) -> Capabilities:
    """Return the capabilities of a session. ``durable``: whether it has a state file."""
    reasons = _NOT_OFFERED if durable else {**_NOT_OFFERED, **_NOT_DURABLE}
    return Capabilities(
        driver="test",
        description="a simulated network in memory that forwards frames as the specification requires",
        features=frozenset(FEATURES) - frozenset(reasons),
        reasons=dict(reasons),
    )
