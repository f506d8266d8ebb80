"""What the test driver offers, and why not the rest."""

from __future__ import annotations

from libnetvirt.driver import FEATURES, Capabilities

_NOT_OFFERED = {
    "endpoint.limits": "frames take no time in memory",
    "reload": "it has no file that says what links are like",
    "repair": "nobody else can change anything in it",
    "rules": "there are no rules: frames are forwarded by the oracle",
    **{name: "frames take no time in memory" for name in FEATURES if name.startswith("constraint.")},
    **{
        name: "frames do not travel between switches, so the option has no effect"
        for name in FEATURES
        if name.startswith("encapsulation.")
    },
}
_NOT_DURABLE = {"durable": "open it with state=PATH"}


def offer(*, durable: bool) -> Capabilities:
    """The capabilities of a session with or without a state file."""
    reasons = _NOT_OFFERED if durable else {**_NOT_OFFERED, **_NOT_DURABLE}
    return Capabilities(
        driver="test",
        description="a network in memory that forwards as the contract says",
        features=frozenset(FEATURES) - frozenset(reasons),
        reasons=dict(reasons),
    )
