"""Hypothesis strategies for valid virtual networks."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from libnetvirt.model import VirtualNetwork

numbers = st.integers(1, 2**64 - 1).map(str)
uuids = st.one_of(st.integers(1, 50).map(str), numbers, st.uuids().map(str))
words = st.one_of(
    st.integers(0, 2**64 - 1).map(str),
    st.sampled_from(
        ["007", "00:00:00:00:00:00:00:01", "eth0", "no", "null", "~", "1e3", "0x10", "-", "a:b", "#1", "&"]
    ),
    st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() and not any(c.isspace() for c in t)),
)
names = st.one_of(
    st.sampled_from(
        ["blue", "two  words", "7", "no", "null", "a: b", "[x]", "- x", "'", '"', "<&>", "é😀", "\\"]
    ),
    st.text(min_size=1, max_size=63)
    .map(str.strip)
    .filter(lambda t: bool(t) and len(t) <= 63 and t.isprintable() and "/" not in t),
)
bandwidths = st.one_of(
    st.integers(1, 2**63 - 1).map(lambda n: f"{n} bit/s"), st.integers(1, 9000).map(lambda n: f"{n} Mbit/s")
)
macs = st.integers(1, 2**40 - 1).map(
    lambda n: "02:" + ":".join(f"{n >> s & 255:02x}" for s in (32, 24, 16, 8, 0))
)
limits = st.fixed_dictionaries({}, optional={"inbound": bandwidths, "outbound": bandwidths})

storms = st.fixed_dictionaries(
    {"rate": st.integers(1, 10_000_000)}, optional={"action": st.sampled_from(["drop", "block"])}
)

pcp_maps = st.dictionaries(st.integers(0, 7), st.integers(0, 7), min_size=1).map(
    lambda found: " , ".join(f"{came}: {given}" for came, given in found.items())
)
pcps = st.fixed_dictionaries({}, optional={"default": st.integers(0, 7), "map": pcp_maps})


def _optional(draw: st.DrawFn, into: dict[str, Any], name: str, values: st.SearchStrategy[Any]) -> None:
    if draw(st.booleans()):
        into[name] = draw(values)


def ports(number: int) -> st.SearchStrategy[str]:
    """A port of endpoint ``number``, or several."""
    named = words.filter(lambda word: "," not in word).map(lambda word: f"{number}{word}")
    return st.lists(named, min_size=1, max_size=3, unique=True).map(",".join)


#: sets of VLANs whose tags are kept, canonical or not
vlan_sets = st.lists(st.integers(1, 4094), min_size=2, max_size=8, unique=True).map(
    lambda found: ", ".join(f"{low} - {high}" for low, high in _pairs(sorted(found)))
)


def _pairs(numbers: list[int]) -> list[tuple[int, int]]:
    """(1st, 2nd), (3rd, 4th), …; a single number left is (n, n)."""
    return [(pair[0], pair[-1]) for pair in (numbers[i : i + 2] for i in range(0, len(numbers), 2))]


@st.composite
def kept_tags(draw: st.DrawFn) -> dict[str, Any] | None:
    """What all endpoints of an L2 network keep of their customers' tags; None for most."""
    kept = draw(st.sampled_from(["", "", "", "any", "set", "inner"]))
    if kept == "inner":
        return {"vlan": draw(st.integers(1, 4094)), "inner-vlan": "any"}
    return {"vlan": draw(vlan_sets) if kept == "set" else kept} if kept else None


@st.composite
def endpoints(
    draw: st.DrawFn, uuid: str, number: int, l3: bool, kept: dict[str, Any] | None = None
) -> dict[str, Any]:
    found: dict[str, Any] = {"uuid": uuid, "switch": draw(words), "port": draw(ports(number))}
    tag = draw(st.sampled_from(["", "vlan", "mpls"])) if kept is None else ""
    found |= kept or {}
    if tag:
        found[tag] = draw(st.integers(1, 4094) if tag == "vlan" else st.integers(16, 2**20 - 1))
    v4, v6 = f"10.{number}.0.1/24", f"fd00:{number:x}::1/64"
    if l3:
        found["address"] = draw(st.sampled_from([[v4], [v6], [v4, v6]]))
        if draw(st.booleans()):
            route4 = {"prefix": f"192.168.{number}.0/24", "via": f"10.{number}.0.7"}
            route6 = {"prefix": f"fd01:{number:x}::/32", "via": f"fd00:{number:x}::7"}
            # A route needs an address of its family.
            found["route"] = [r for r, a in ((route4, v4), (route6, v6)) if a in found["address"]]
    elif draw(st.booleans()):
        found["address"] = [v4]
    _optional(draw, found, "bandwidth", limits)
    _optional(draw, found, "storm", storms)
    if not (l3 or kept or "mpls" in found):
        _optional(draw, found, "pcp", pcps)
    return found


@st.composite
def constraints(draw: st.DrawFn, source: str, destination: str) -> dict[str, Any]:
    low, high = sorted((draw(st.integers(1, 2**63 - 1)), draw(st.integers(1, 2**63 - 1))))
    asked = {
        "min-bandwidth": f"{low} bit/s",
        "max-bandwidth": f"{high} bit/s",
        "max-latency": f"{draw(st.integers(1, 10**9))} us",
        "max-hops": draw(st.integers(1, 255)),
    }
    kept = draw(st.sets(st.sampled_from(sorted(asked)), min_size=1))
    found: dict[str, Any] = {"source": source, "destination": destination}
    _optional(draw, found, "priority", st.integers(0, 255))
    return {**found, **{k: asked[k] for k in sorted(kept)}}


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = {}
    _optional(draw, found, "encapsulation", st.sampled_from(["native", "vlan", "mpls"]))
    _optional(draw, found, "insertion", st.sampled_from(["on-demand", "offline"]))
    allowed = ["permanent"] if found.get("insertion") == "offline" else ["permanent", "fixed", "idle"]
    _optional(draw, found, "timeout", st.sampled_from(allowed))
    if found.get("timeout") != "permanent":
        _optional(draw, found, "duration", st.integers(1, 65535).map(lambda n: f"{n} s"))
    return found


@st.composite
def networks(draw: st.DrawFn) -> VirtualNetwork:
    """Any valid virtual network of up to five endpoints."""
    l3 = draw(st.booleans())
    keys = draw(st.lists(uuids, max_size=5, unique=True))
    macs_left = draw(st.lists(macs, max_size=5, unique=True))
    kept = None if l3 else draw(kept_tags())
    content: dict[str, Any] = {
        "uuid": draw(uuids),
        "forwarding": "L3" if l3 else "L2",
        "endpoints": [draw(endpoints(key, i, l3, kept)) for i, key in enumerate(keys)],
    }
    for mac in macs_left if keys else []:
        draw(st.sampled_from(content["endpoints"])).setdefault("mac", []).append(mac)
    pairs = [(a, b) for a in keys for b in keys if a != b]
    if pairs:
        chosen = draw(st.lists(st.sampled_from(pairs), max_size=4, unique=True))
        content["constraints"] = [draw(constraints(a, b)) for a, b in chosen]
    _optional(draw, content, "name", names)
    _optional(draw, content, "rules", rules())
    return VirtualNetwork.model_validate(content)


@st.composite
def old_networks(draw: st.DrawFn) -> VirtualNetwork:
    """Any network that the format of 2012 can express."""
    l3 = draw(st.booleans())
    keys = draw(st.lists(numbers, max_size=5, unique=True))
    ends = []
    for i, key in enumerate(keys):
        end: dict[str, Any] = {"uuid": key, "switch": draw(numbers), "port": i + 1}
        tag = draw(st.sampled_from(["", "vlan", "mpls"]))
        if tag:
            end[tag] = draw(st.integers(16, 4094))
        if l3 or draw(st.booleans()):
            end["address"] = f"10.{i}.0.1/24"
        ends.append(end)
    pairs = [(a, b) for a in keys for b in keys if a != b]
    asked = []
    for a, b in draw(st.lists(st.sampled_from(pairs), max_size=4, unique=True)) if pairs else []:
        low, high = sorted((draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6))))
        both = {"min-bandwidth": f"{low} Mbit/s", "max-bandwidth": f"{high} Mbit/s"}
        kept = draw(st.sets(st.sampled_from(sorted(both)), min_size=1))
        asked.append({"source": a, "destination": b, **{k: both[k] for k in kept}})
    return VirtualNetwork.model_validate(
        {
            "uuid": draw(numbers),
            "name": draw(names),
            "forwarding": "L3" if l3 else "L2",
            "endpoints": ends,
            "constraints": asked,
        }
    )
