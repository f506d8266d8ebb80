"""A hypothesis strategy for every message that the codec can decode."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from libnetvirt import openflow as of

U8: Final = st.integers(0, 0xFF)
U16: Final = st.integers(0, 0xFFFF)
U32: Final = st.integers(0, 0xFFFFFFFF)
U48: Final = st.integers(0, (1 << 48) - 1)
U64: Final = st.integers(0, (1 << 64) - 1)
BODY: Final = st.binary(max_size=40)
PAYLOADS: Final = st.integers(0, 4).flatmap(lambda n: st.binary(min_size=8 * n, max_size=8 * n))
OPAQUE: Final = st.integers(0, 4).flatmap(lambda n: st.binary(min_size=8 * n + 4, max_size=8 * n + 4))


def text(width: int) -> SearchStrategy[str]:
    """Names as switches have them: ASCII without a zero byte, at most `width` bytes."""
    return st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=width)


def tuples_of(each: SearchStrategy[Any], most: int = 4) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(each, max_size=most).map(tuple)


@st.composite
def matches(draw: st.DrawFn) -> of.Match:
    """Any match: standard fields, masked where they may be, and foreign ones."""
    fields: dict[str, int | tuple[int, int]] = {}
    for name in draw(st.lists(st.sampled_from(sorted(of.FIELDS)), max_size=5, unique=True)):
        field = of.FIELDS[name]
        value = draw(st.integers(0, field.all_ones))
        if field.maskable and draw(st.booleans()):
            fields[name] = (value, draw(st.integers(0, field.all_ones)))
        else:
            fields[name] = value
    for oxm_class, number, width in draw(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 0x8000, 0x8001, 0xFFFF]), st.integers(64, 127), st.integers(0, 20)
            ),
            max_size=2,
            unique_by=lambda key: key[:2],
        )
    ):
        name = f"oxm_{oxm_class:04x}_{number}_{width}" + ("_4f4e4600" if oxm_class == 0xFFFF else "")
        value = draw(st.integers(0, (1 << 8 * width) - 1))
        mask = draw(st.none() | st.integers(0, (1 << 8 * width) - 1))
        fields[name] = value if mask is None else (value, mask)
    return of.Match(**fields)


def set_fields() -> SearchStrategy[of.SetField]:
    known = st.sampled_from(sorted(of.FIELDS)).flatmap(
        lambda name: st.builds(of.SetField, st.just(name), st.integers(0, of.FIELDS[name].all_ones))
    )
    return known | st.builds(of.SetField, st.just("oxm_0001_31_4"), U32)


ACTIONS: Final = st.one_of(
    st.builds(of.Output, U32, U16),
    st.builds(of.CopyTtlOut),
    st.builds(of.CopyTtlIn),
    st.builds(of.SetMplsTtl, U8),
    st.builds(of.DecMplsTtl),
    st.builds(of.PushVlan, U16),
    st.builds(of.PopVlan),
    st.builds(of.PushMpls, U16),
    st.builds(of.PopMpls, U16),
    st.builds(of.SetQueue, U32),
    st.builds(of.Group, U32),
    st.builds(of.SetNwTtl, U8),
    st.builds(of.DecNwTtl),
    st.builds(of.PushPbb, U16),
    st.builds(of.PopPbb),
    set_fields(),
    st.builds(of.Experimenter, U32, PAYLOADS),
    st.builds(of.UnknownAction, st.integers(100, 0xFFFE), OPAQUE),
)

INSTRUCTIONS: Final = st.one_of(
    st.builds(of.GotoTable, U8),
    st.builds(of.WriteMetadata, U64, U64),
    st.builds(of.WriteActions, tuples_of(ACTIONS)),
    st.builds(of.ApplyActions, tuples_of(ACTIONS)),
    st.builds(of.ClearActions),
    st.builds(of.Meter, U32),
    st.builds(of.ExperimenterInstruction, U32, PAYLOADS),
    st.builds(of.UnknownInstruction, st.integers(100, 0xFFFE), OPAQUE),
)

BANDS: Final = st.one_of(
    st.builds(of.DropBand, U32, U32),
    st.builds(of.DscpRemarkBand, U32, U32, U8),
    st.builds(of.ExperimenterBand, U32, U32, U32, PAYLOADS),
    st.builds(of.UnknownBand, st.integers(100, 0xFFFE), PAYLOADS.map(lambda b: b"\1" * 12 + b).filter(len)),
)

BUCKETS: Final = st.builds(of.Bucket, U16, U32, U32, tuples_of(ACTIONS, 3))
PORTS: Final = st.builds(of.PortDesc, U32, U48, text(16), *([U32] * 8))
PROPERTIES: Final = st.builds(of.TableProperty, U16, BODY)
FEATURES: Final = st.builds(of.TableFeatures, U8, text(32), U64, U64, U32, U32, tuples_of(PROPERTIES, 3))
QUEUES: Final = st.builds(
    of.PacketQueue,
    U32,
    U32,
    tuples_of(
        st.one_of(
            st.builds(of.MinRate, U16),
            st.builds(of.MaxRate, U16),
            st.builds(of.UnknownQueueProperty, st.integers(3, 0xFFFF), OPAQUE),
        ),
        3,
    ),
)
FLOW_ENTRIES: Final = st.builds(
    of.FlowStatsEntry,
    U8,
    U32,
    U32,
    U16,
    U16,
    U16,
    U16,
    U64,
    U64,
    U64,
    matches(),
    tuples_of(INSTRUCTIONS, 3),
)
PAIRS: Final = st.tuples(U32, U32)
QUADS: Final = st.tuples(U32, U32, U32, U32)


def message(kind: type[of.Message], *fields: SearchStrategy[Any]) -> SearchStrategy[of.Message]:
    """A message of that kind, with any xid; a multipart one also with any `more`."""
    if issubclass(kind, of.Multipart):
        return st.builds(kind, *fields, xid=U32, more=st.booleans())
    return st.builds(kind, *fields, xid=U32)


def _table() -> dict[type[of.Message], SearchStrategy[of.Message]]:
    selection = (U8, U32, U32, U64, U64, matches())
    whole: list[tuple[Any, ...]] = [
        (of.Hello, st.frozensets(U8, max_size=4), U8),
        (of.Error, st.integers(0, 0xFFFE), U16, BODY),
        (of.ExperimenterError, U16, U32, BODY),
        (of.EchoRequest, BODY),
        (of.EchoReply, BODY),
        (of.ExperimenterMessage, st.integers(0, 0x4F4E45FF), U32, BODY),
        (of.UnknownMessage, st.integers(30, 0xFF), BODY),
        (of.FeaturesRequest,),
        (of.FeaturesReply, U64, U32, U8, U8, U32, U32),
        (of.GetConfigRequest,),
        (of.GetConfigReply, U16, U16),
        (of.SetConfig, U16, U16),
        (of.BarrierRequest,),
        (of.BarrierReply,),
        (of.RoleRequest, U32, U64),
        (of.RoleReply, U32, U64),
        (of.GetAsyncRequest,),
        (of.GetAsyncReply, PAIRS, PAIRS, PAIRS),
        (of.SetAsync, PAIRS, PAIRS, PAIRS),
        (of.PacketIn, st.builds(of.PacketInHead, U32, U16, U8, U8, U64, matches()), BODY),
        (of.PacketOut, U32, U32, tuples_of(ACTIONS), BODY),
        (of.FlowRemoved, U64, U16, U8, U8, U32, U32, U16, U16, U64, U64, matches()),
        (of.PortStatus, U8, PORTS),
        (
            of.FlowMod,
            *(U64, U64, U8, U8, U16, U16, U16, U32, U32, U32, U16),
            matches(),
            tuples_of(INSTRUCTIONS),
        ),
        (of.GroupMod, U16, U8, U32, tuples_of(BUCKETS, 3)),
        (of.PortMod, U32, U48, U32, U32, U32),
        (of.TableMod, U8, U32),
        (of.MeterMod, U16, U16, U32, tuples_of(BANDS, 3)),
        (of.QueueGetConfigRequest, U32),
        (of.QueueGetConfigReply, U32, tuples_of(QUEUES, 3)),
        (of.BundleControl, U32, U16, U16, BODY),
        (of.DescRequest,),
        (of.DescReply, text(256), text(256), text(256), text(32), text(256)),
        (of.FlowStatsRequest, *selection),
        (of.FlowStatsReply, tuples_of(FLOW_ENTRIES, 3)),
        (of.AggregateStatsRequest, *selection),
        (of.AggregateStatsReply, U64, U64, U32),
        (of.TableStatsRequest,),
        (of.TableStatsReply, tuples_of(st.builds(of.TableStatsEntry, U8, U32, U64, U64))),
        (of.TableFeaturesRequest, tuples_of(FEATURES, 3)),
        (of.TableFeaturesReply, tuples_of(FEATURES, 3)),
        (of.PortDescRequest,),
        (of.PortDescReply, tuples_of(PORTS)),
        (of.PortStatsRequest, U32),
        (of.PortStatsReply, tuples_of(st.builds(of.PortStatsEntry, U32, *([U64] * 12), U32, U32))),
        (of.QueueStatsRequest, U32, U32),
        (of.QueueStatsReply, tuples_of(st.builds(of.QueueStatsEntry, U32, U32, U64, U64, U64, U32, U32))),
        (of.GroupStatsRequest, U32),
        (
            of.GroupStatsReply,
            tuples_of(
                st.builds(
                    of.GroupStatsEntry,
                    *(U32, U32, U64, U64, U32, U32),
                    tuples_of(st.builds(of.BucketStats, U64, U64)),
                )
            ),
        ),
        (of.GroupDescRequest,),
        (of.GroupDescReply, tuples_of(st.builds(of.GroupDesc, U8, U32, tuples_of(BUCKETS, 3)))),
        (of.GroupFeaturesRequest,),
        (of.GroupFeaturesReply, U32, U32, QUADS, QUADS),
        (of.MeterStatsRequest, U32),
        (
            of.MeterStatsReply,
            tuples_of(
                st.builds(
                    of.MeterStatsEntry,
                    *(U32, U32, U64, U64, U32, U32),
                    tuples_of(st.builds(of.BandStats, U64, U64)),
                )
            ),
        ),
        (of.MeterConfigRequest, U32),
        (of.MeterConfigReply, tuples_of(st.builds(of.MeterConfig, U16, U32, tuples_of(BANDS, 3)))),
        (of.MeterFeaturesRequest,),
        (of.MeterFeaturesReply, U32, U32, U32, U8, U8),
    ]
    table = {kind: message(kind, *fields) for kind, *fields in whole}

    def added(xid: int) -> SearchStrategy[of.Message]:
        inner = st.one_of(table[of.FlowMod], table[of.GroupMod], table[of.PortMod], table[of.MeterMod])

        def with_xid(held: of.Message) -> of.Message:
            held.xid = xid
            return held

        return st.builds(of.BundleAdd, U32, U16, inner.map(with_xid), xid=st.just(xid))

    table[of.BundleAdd] = U32.flatmap(added)
    return table


STRATEGIES: Final = _table()
"""One strategy a class."""

ANY_MESSAGE: Final = st.sampled_from(sorted(STRATEGIES, key=lambda kind: kind.__name__)).flatmap(
    lambda kind: STRATEGIES[kind]
)
"""Any message."""
