"""libnetvirt is to networks what libvirt is to machines.

``libnetvirt.open(uri)`` returns a connection to a driver; ``connection.create(...)`` makes an isolated
virtual network of the endpoints you name. ``libnetvirt.aio`` has the same as coroutines.

Every type that these take, return or raise can be imported from here. What a name stands for is imported
when it is first used: a command that needs no connection starts in a third of the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from libnetvirt.blocking import Connection, Network, open
    from libnetvirt.driver import Capabilities, Change, Combination, Driver
    from libnetvirt.errors import (
        AccessDenied,
        AddressConflict,
        AddressInUse,
        AlreadyExists,
        Conflict,
        ConnectionClosed,
        ConnectionFailed,
        ConstraintNotFound,
        ConstraintUnmet,
        DaemonUnreachable,
        DriverNotFound,
        EndpointClaimed,
        EndpointNotFound,
        Fault,
        InvalidDescription,
        InvalidURI,
        LabelsExhausted,
        NetvirtError,
        NetworkNotFound,
        NoPath,
        NotFound,
        NotLeader,
        PortNotFound,
        PreconditionFailed,
        RuleRefused,
        ServerBusy,
        StaleChange,
        StateUnusable,
        SubstrateError,
        SwitchNotFound,
        SwitchTimeout,
        SwitchUntrusted,
        TokenRefused,
        Unsupported,
    )
    from libnetvirt.model import (
        Applied,
        Bandwidth,
        Constraint,
        ConstraintChanges,
        ConstraintCounters,
        ConstraintFields,
        ConstraintState,
        Counterexample,
        Counters,
        Duration,
        Encapsulation,
        Endpoint,
        EndpointChanges,
        EndpointFields,
        EndpointState,
        Event,
        Forecast,
        Forwarding,
        Hop,
        Host,
        HostSource,
        Insertion,
        Limits,
        LimitsFields,
        Link,
        Measured,
        Measurement,
        NetworkFields,
        NetworkState,
        Outcome,
        Path,
        Pcp,
        PcpFields,
        Port,
        PortUse,
        Recovered,
        ReservationChange,
        Route,
        RouteFields,
        RuleChanges,
        RuleLine,
        Rules,
        RulesFields,
        State,
        Storm,
        StormAction,
        StormFields,
        Substrate,
        Switch,
        Timeout,
        Verification,
        VerifiedHop,
        VerifiedProperty,
        VirtualNetwork,
    )

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AddressConflict",
    "AddressInUse",
    "AlreadyExists",
    "Applied",
    "Bandwidth",
    "Capabilities",
    "Change",
    "Combination",
    "Conflict",
    "Connection",
    "ConnectionClosed",
    "ConnectionFailed",
    "Constraint",
    "ConstraintChanges",
    "ConstraintCounters",
    "ConstraintFields",
    "ConstraintNotFound",
    "ConstraintState",
    "ConstraintUnmet",
    "Counterexample",
    "Counters",
    "DaemonUnreachable",
    "Driver",
    "DriverNotFound",
    "Duration",
    "Encapsulation",
    "Endpoint",
    "EndpointChanges",
    "EndpointClaimed",
    "EndpointFields",
    "EndpointNotFound",
    "EndpointState",
    "Event",
    "Fault",
    "Forecast",
    "Forwarding",
    "Hop",
    "Host",
    "HostSource",
    "Insertion",
    "InvalidDescription",
    "InvalidURI",
    "LabelsExhausted",
    "Limits",
    "LimitsFields",
    "Link",
    "Measured",
    "Measurement",
    "NetvirtError",
    "Network",
    "NetworkFields",
    "NetworkNotFound",
    "NetworkState",
    "NoPath",
    "NotFound",
    "NotLeader",
    "Outcome",
    "Path",
    "Pcp",
    "PcpFields",
    "Port",
    "PortNotFound",
    "PortUse",
    "PreconditionFailed",
    "Recovered",
    "ReservationChange",
    "Route",
    "RouteFields",
    "RuleChanges",
    "RuleLine",
    "RuleRefused",
    "Rules",
    "RulesFields",
    "ServerBusy",
    "StaleChange",
    "State",
    "StateUnusable",
    "Storm",
    "StormAction",
    "StormFields",
    "Substrate",
    "SubstrateError",
    "Switch",
    "SwitchNotFound",
    "SwitchTimeout",
    "SwitchUntrusted",
    "Timeout",
    "TokenRefused",
    "Unsupported",
    "Verification",
    "VerifiedHop",
    "VerifiedProperty",
    "VirtualNetwork",
    "__version__",
    "open",
]

# Where the names are defined, the module that is imported fastest first.
_HOMES = ("errors", "model", "driver", "blocking")
# Modules that can be used without an import of their own.
_MODULES = frozenset(
    (
        "aio",
        "connection",
        "driver",
        "errors",
        "formats",
        "model",
        "network",
        "session",
        "settings",
        "thin",
        "uri",
    )
)

if not TYPE_CHECKING:  # type checkers would accept any name otherwise

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            for home in _HOMES:
                module = import_module(f"{__name__}.{home}")
                if hasattr(module, name):
                    globals()[name] = found = getattr(module, name)
                    return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_MODULES})
