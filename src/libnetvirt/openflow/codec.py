"""`decode` parses one whole message. The tables of all message classes are here.

Most messages are told apart by the type in the header. Multipart messages are told apart by their multipart
type, and bundle messages by the experimenter type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from types import MappingProxyType
from typing import Final

from libnetvirt.openflow import bundles, modify, multipart, packets, queues, session, statistics
from libnetvirt.openflow.constants import BUNDLE_ADD, BUNDLE_CONTROL, OFP_VERSION, ONF_EXPERIMENTER, MsgType
from libnetvirt.openflow.errors import ErrorType, FaultKind, ProtocolError
from libnetvirt.openflow.message import HEADER, Message, Multipart

SINGLE_MESSAGES: Final[tuple[type[Message], ...]] = (
    session.Hello,
    session.EchoRequest,
    session.EchoReply,
    session.FeaturesRequest,
    session.FeaturesReply,
    session.GetConfigRequest,
    session.GetConfigReply,
    session.SetConfig,
    session.BarrierRequest,
    session.BarrierReply,
    session.RoleRequest,
    session.RoleReply,
    session.GetAsyncRequest,
    session.GetAsyncReply,
    session.SetAsync,
    packets.PacketIn,
    packets.PacketOut,
    packets.FlowRemoved,
    packets.PortStatus,
    modify.FlowMod,
    modify.GroupMod,
    modify.PortMod,
    modify.TableMod,
    modify.MeterMod,
    queues.QueueGetConfigRequest,
    queues.QueueGetConfigReply,
)
"""Messages that are told apart by the type in the header alone."""

MULTIPART_REQUESTS: Final[tuple[type[Multipart], ...]] = (
    multipart.DescRequest,
    multipart.FlowStatsRequest,
    multipart.AggregateStatsRequest,
    multipart.TableStatsRequest,
    statistics.PortStatsRequest,
    statistics.QueueStatsRequest,
    statistics.GroupStatsRequest,
    statistics.GroupDescRequest,
    statistics.GroupFeaturesRequest,
    statistics.MeterStatsRequest,
    statistics.MeterConfigRequest,
    statistics.MeterFeaturesRequest,
    multipart.TableFeaturesRequest,
    statistics.PortDescRequest,
)
"""Multipart requests, told apart by the multipart type."""

MULTIPART_REPLIES: Final[tuple[type[Multipart], ...]] = (
    multipart.DescReply,
    multipart.FlowStatsReply,
    multipart.AggregateStatsReply,
    multipart.TableStatsReply,
    statistics.PortStatsReply,
    statistics.QueueStatsReply,
    statistics.GroupStatsReply,
    statistics.GroupDescReply,
    statistics.GroupFeaturesReply,
    statistics.MeterStatsReply,
    statistics.MeterConfigReply,
    statistics.MeterFeaturesReply,
    multipart.TableFeaturesReply,
    statistics.PortDescReply,
)
"""Multipart replies, told apart by the multipart type."""

MESSAGES: Final[tuple[type[Message], ...]] = (
    *SINGLE_MESSAGES,
    *MULTIPART_REQUESTS,
    *MULTIPART_REPLIES,
    session.Error,
    session.ExperimenterError,
    session.ExperimenterMessage,
    session.UnknownMessage,
    bundles.BundleControl,
    bundles.BundleAdd,
)
"""Every message class that `decode` can return."""

_Parser = Callable[[bytes, int], Message]

_U16: Final = Struct("!H")
_EXPERIMENTER: Final = Struct("!II")
_REQUEST_PARSERS: Final[Mapping[int, _Parser]] = MappingProxyType(
    {c.MULTIPART_TYPE: c.parse_body for c in MULTIPART_REQUESTS}
)
_REPLY_PARSERS: Final[Mapping[int, _Parser]] = MappingProxyType(
    {c.MULTIPART_TYPE: c.parse_body for c in MULTIPART_REPLIES}
)


def _parse_error(frame: bytes, xid: int) -> Message:
    if len(frame) >= 16 and _U16.unpack_from(frame, 8)[0] == ErrorType.EXPERIMENTER:
        return session.ExperimenterError.parse_body(frame, xid)
    return session.Error.parse_body(frame, xid)


def _parse_request(frame: bytes, xid: int) -> Message:
    return _parse_multipart(_REQUEST_PARSERS, frame, xid)


def _parse_reply(frame: bytes, xid: int) -> Message:
    return _parse_multipart(_REPLY_PARSERS, frame, xid)


def _parse_multipart(parsers: Mapping[int, _Parser], frame: bytes, xid: int) -> Message:
    if len(frame) < 16:
        raise ProtocolError(f"a multipart message of {len(frame)} bytes; at least 16 are needed")
    parser = parsers.get(_U16.unpack_from(frame, 8)[0])
    if parser is None:
        return session.UnknownMessage(frame[1], frame[8:], xid=xid)
    return parser(frame, xid)


def _parse_experimenter(frame: bytes, xid: int) -> Message:
    if len(frame) >= 16:
        experimenter, exp_type = _EXPERIMENTER.unpack_from(frame, 8)
        if experimenter == ONF_EXPERIMENTER and exp_type == BUNDLE_CONTROL:
            return bundles.BundleControl.parse_body(frame, xid)
        if experimenter == ONF_EXPERIMENTER and exp_type == BUNDLE_ADD:
            return _parse_bundle_add(frame, xid)
    return session.ExperimenterMessage.parse_body(frame, xid)


def _parse_bundle_add(frame: bytes, xid: int) -> Message:
    start = bundles.BUNDLE_BODY
    if len(frame) < start + HEADER.size:
        raise ProtocolError(f"a bundle-add of {len(frame)} bytes; at least {start + HEADER.size} are needed")
    bundle_id, _, flags = bundles.BODY.unpack_from(frame, 16)
    _, kind, length, inner_xid = HEADER.unpack_from(frame, start)
    if length > len(frame) - start:
        raise ProtocolError(f"a message of {length} bytes in a bundle-add, {len(frame) - start} are left")
    if inner_xid != xid:
        raise ProtocolError(f"a message with xid {inner_xid:#x} in a bundle-add", kind=FaultKind.VALUE)
    if kind == MsgType.EXPERIMENTER and frame[start + 8 : start + 16] == _EXPERIMENTER_ADD:
        raise ProtocolError("a bundle in a bundle", kind=FaultKind.VALUE)
    # Bundle properties may follow the message; none is defined for bundle-adds, so they are ignored.
    return bundles.BundleAdd(bundle_id, flags, decode(frame[start : start + length]), xid=xid)


_EXPERIMENTER_ADD: Final = _EXPERIMENTER.pack(ONF_EXPERIMENTER, BUNDLE_ADD)

_PARSERS: Final[Mapping[int, _Parser]] = MappingProxyType(
    {int(c.TYPE): c.parse_body for c in SINGLE_MESSAGES}
    | {
        int(MsgType.ERROR): _parse_error,
        int(MsgType.EXPERIMENTER): _parse_experimenter,
        int(MsgType.MULTIPART_REQUEST): _parse_request,
        int(MsgType.MULTIPART_REPLY): _parse_reply,
    }
)


def decode(frame: bytes) -> Message:
    """Parse `frame`, which holds exactly one message.

    An unknown message type or multipart type gives an `UnknownMessage`, an unknown experimenter an
    `ExperimenterMessage`. HELLO and ERROR may have any version in the header, all other messages must have
    version 1.3. `ProtocolError` is the only exception raised; it has the message's xid.
    """
    size = len(frame)
    if size < 8:
        raise ProtocolError(f"a message of {size} bytes; the header alone has 8")
    version, kind, length, xid = HEADER.unpack_from(frame)
    if length != size:
        raise ProtocolError(f"a message of {size} bytes whose header says {length}", xid)
    if version != OFP_VERSION and kind > MsgType.ERROR:
        raise ProtocolError(
            f"a message of version {version:#04x}; version 0x04 was negotiated", xid, FaultKind.VERSION
        )
    parser = _PARSERS.get(kind)
    if parser is None:
        return session.UnknownMessage(kind, frame[8:], xid=xid)
    try:
        return parser(frame, xid)
    except ProtocolError as fault:
        fault.xid = xid
        raise
