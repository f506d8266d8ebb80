"""What the openflow driver offers, and the defaults that the options of a connection's URI set."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from types import MappingProxyType

from libnetvirt.driver import Capabilities, Combination
from libnetvirt.errors import InvalidDescription, InvalidURI, Unsupported
from libnetvirt.model import DEFAULT_DURATION, Encapsulation, Insertion, Rules, Timeout, VirtualNetwork
from libnetvirt.uri import URI

NAME = "openflow"
PRESETS: Mapping[str, Rules] = {
    "proactive": Rules(
        encapsulation=Encapsulation.VLAN, insertion=Insertion.OFFLINE, timeout=Timeout.PERMANENT
    ),
    "reactive": Rules(
        encapsulation=Encapsulation.NATIVE,
        insertion=Insertion.ON_DEMAND,
        timeout=Timeout.IDLE,
        duration=DEFAULT_DURATION,
    ),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "encapsulation": tuple(Encapsulation),
    "insertion": tuple(Insertion),
    "timeout": tuple(Timeout),
}
OPTIONS: Mapping[str, str] = {
    "preset": "proactive (vlan, offline, permanent; the default) or reactive (native, on-demand, idle 60 s)",
    "encapsulation": "native, vlan or mpls, for networks that do not specify it (default: the preset's)",
    "insertion": "on-demand or offline, for networks that do not specify it (default: the preset's)",
    "timeout": "permanent, fixed or idle, for networks that do not specify it (default: the preset's); "
    "offline insertion requires permanent",
    "duration": "seconds of fixed and idle timeouts, 1 to 65535 (default 60)",
}
COMBINATIONS = tuple(
    Combination(encapsulation=encapsulation, insertion=insertion, timeout=timeout)
    for encapsulation, insertion, timeout in product(Encapsulation, Insertion, Timeout)
    # The model refuses offline rules that expire.
    if insertion is Insertion.ON_DEMAND or timeout is Timeout.PERMANENT
)
FEATURES = frozenset(
    (
        "forwarding.L2", "forwarding.L3", "tag.vlan", "tag.mpls", "endpoint.mac", "endpoint.limits",
        "constraint.min-bandwidth", "constraint.max-bandwidth", "constraint.max-latency",
        "constraint.max-hops", "constraint.statistics", "encapsulation.native", "encapsulation.vlan",
        "encapsulation.mpls", "pending", "durable", "paths", "statistics", "rules",
        "reload", "router.no-route",
    )
)  # fmt: skip
REASONS = {
    "repair": "switches are reconciled whenever they connect, without being asked",
}
#: what a connection lacks with enforcement=queue, but without the databases to configure queues in
NO_DATABASE: Mapping[str, str] = {
    "constraint.min-bandwidth": "enforcement is queue, but the databases of the switches are not known: "
    "give ovsdb in the URI, or choose enforcement=meter",
}


def capabilities(defaults: Rules, without: Mapping[str, str] = MappingProxyType({})) -> Capabilities:
    """What a connection with these default rules options offers. ``without``: features that it lacks, and
    why."""
    return Capabilities(
        driver=NAME,
        description="switches that speak OpenFlow 1.3, such as Open vSwitch",
        features=FEATURES - without.keys(),
        combinations=COMBINATIONS,
        defaults=defaults,
        reasons={**REASONS, **without},
    )


def defaults(uri: URI) -> Rules:
    """The default rules options that a URI sets. Raises InvalidURI."""
    preset = PRESETS[uri.choice("preset", tuple(PRESETS), "proactive")]
    chosen: dict[str, str] = {
        name: uri.choice(name, allowed, "") for name, allowed in _CHOICES.items() if name in uri.options
    }
    if "duration" in uri.options:
        chosen["duration"] = f"{uri.number('duration', 60, 1, 65535):g} s"
    try:
        return Rules.model_validate(chosen).over(preset)
    except InvalidDescription as error:
        raise InvalidURI(f"the rules options in {uri.text!r} are not valid: {error}") from None


def check_routed(network: VirtualNetwork, rules: Rules) -> None:
    """Raise Unsupported if a routed network cannot have these rules options."""
    if rules.encapsulation is Encapsulation.NATIVE or rules.insertion is Insertion.ON_DEMAND:
        raise Unsupported(
            f"network {network.name}: a network with forwarding L3 cannot have rules {rules.encapsulation}/"
            f"{rules.insertion}/{rules.timeout}. Its packets change their MAC addresses on the way, so it "
            "needs tunnels, and rules that are installed in advance. Choose encapsulation vlan or mpls, "
            "insertion offline and timeout permanent"
        )
