"""An OpenFlow 1.3 codec and connection state machine, without I/O.

Nothing in this package reads a socket or a clock.

Theory of operation
-------------------
`Framer` cuts the byte stream of a connection into frames, one frame per OpenFlow message. `decode` parses a
frame into an instance of one of the classes in `MESSAGES`; the method `encode` of a message builds its frame.
`Channel` is the controller's side of one connection: it frames, decodes, negotiates the version, answers
echo requests and detects a dead peer. `MultipartAssembler` joins the parts of a multipart reply.

The classes of messages, actions, instructions and multipart entries are dataclasses. Each declares its wire
form once, as a `Layout` (see `libnetvirt.openflow.layout`), from which packing and parsing follow. The
classes that make up most of a controller's traffic have a hand-written `encode` beside it.

Section numbers refer to the OpenFlow Switch Specification 1.3.5 unless another document is named.
"""

from libnetvirt.openflow import constants
from libnetvirt.openflow.actions import (
    Action,
    CopyTtlIn,
    CopyTtlOut,
    DecMplsTtl,
    DecNwTtl,
    Experimenter,
    Group,
    Output,
    PopMpls,
    PopPbb,
    PopVlan,
    PushMpls,
    PushPbb,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetNwTtl,
    SetQueue,
    UnknownAction,
)
from libnetvirt.openflow.assembler import (
    MultipartAssembler,
)
from libnetvirt.openflow.bundles import (
    BundleAdd,
    BundleControl,
)
from libnetvirt.openflow.channel import (
    Channel,
    ChannelState,
    Event,
    HandshakeDone,
    Malformed,
    PeerClosed,
    PeerDead,
    Refused,
)
from libnetvirt.openflow.codec import (
    MESSAGES,
    decode,
)
from libnetvirt.openflow.constants import (
    ALL_QUEUES,
    ALL_TABLES,
    BUNDLE_ADD,
    BUNDLE_CONTROL,
    CONTROLLER_MAX_LENGTH,
    CONTROLLER_NO_BUFFER,
    DEFAULT_PRIORITY,
    MAX_MESSAGE_LENGTH,
    NICIRA_EXPERIMENTER,
    NO_BUFFER,
    OFP_VERSION,
    ONF_EXPERIMENTER,
    VLAN_NONE,
    VLAN_PRESENT,
    ActionType,
    BandType,
    BundleCtrlType,
    BundleFlags,
    Capabilities,
    ConfigFlags,
    ControllerRole,
    FlowModCommand,
    FlowModFlags,
    FlowRemovedReason,
    GroupCapabilities,
    GroupId,
    GroupModCommand,
    GroupType,
    HelloElement,
    InstructionType,
    MeterFlags,
    MeterId,
    MeterModCommand,
    MsgType,
    MultipartFlags,
    MultipartType,
    PacketInReason,
    Port,
    PortConfig,
    PortFeatures,
    PortState,
    PortStatusReason,
    QueueProperty,
    TableFeatureType,
)
from libnetvirt.openflow.errors import (
    ERROR_CODES,
    BadAction,
    BadInstruction,
    BadMatch,
    BadRequest,
    BundleFailed,
    ErrorType,
    FaultKind,
    FlowModFailed,
    GroupModFailed,
    HelloFailed,
    MeterModFailed,
    PortModFailed,
    ProtocolError,
    QueueOpFailed,
    RoleRequestFailed,
    SwitchConfigFailed,
    TableFeaturesFailed,
    TableModFailed,
    error_text,
)
from libnetvirt.openflow.framer import (
    Framer,
)
from libnetvirt.openflow.instructions import (
    ApplyActions,
    ClearActions,
    ExperimenterInstruction,
    GotoTable,
    Instruction,
    Meter,
    UnknownInstruction,
    WriteActions,
    WriteMetadata,
)
from libnetvirt.openflow.match import (
    Match,
)
from libnetvirt.openflow.message import (
    HEADER,
    Message,
    Multipart,
)
from libnetvirt.openflow.modify import (
    Band,
    Bucket,
    DropBand,
    DscpRemarkBand,
    ExperimenterBand,
    FlowMod,
    GroupMod,
    MeterMod,
    PortMod,
    TableMod,
    UnknownBand,
)
from libnetvirt.openflow.multipart import (
    AggregateStatsReply,
    AggregateStatsRequest,
    DescReply,
    DescRequest,
    FlowStatsEntry,
    FlowStatsReply,
    FlowStatsRequest,
    MultipartReply,
    MultipartRequest,
    TableFeatures,
    TableFeaturesReply,
    TableFeaturesRequest,
    TableProperty,
    TableStatsEntry,
    TableStatsReply,
    TableStatsRequest,
)
from libnetvirt.openflow.oxm import (
    FIELDS,
    OxmField,
)
from libnetvirt.openflow.packets import (
    FlowRemoved,
    PacketIn,
    PacketInHead,
    PacketOut,
    PortDesc,
    PortStatus,
)
from libnetvirt.openflow.queues import (
    MaxRate,
    MinRate,
    PacketQueue,
    QueueGetConfigReply,
    QueueGetConfigRequest,
    UnknownQueueProperty,
)
from libnetvirt.openflow.records import (
    RecordsReply,
    description_records,
    flow_records,
    packet_count,
)
from libnetvirt.openflow.session import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    ExperimenterError,
    ExperimenterMessage,
    FeaturesReply,
    FeaturesRequest,
    GetAsyncReply,
    GetAsyncRequest,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    RoleReply,
    RoleRequest,
    SetAsync,
    SetConfig,
    UnknownMessage,
)
from libnetvirt.openflow.statistics import (
    BandStats,
    BucketStats,
    GroupDesc,
    GroupDescReply,
    GroupDescRequest,
    GroupFeaturesReply,
    GroupFeaturesRequest,
    GroupStatsEntry,
    GroupStatsReply,
    GroupStatsRequest,
    MeterConfig,
    MeterConfigReply,
    MeterConfigRequest,
    MeterFeaturesReply,
    MeterFeaturesRequest,
    MeterStatsEntry,
    MeterStatsReply,
    MeterStatsRequest,
    PortDescReply,
    PortDescRequest,
    PortStatsEntry,
    PortStatsReply,
    PortStatsRequest,
    QueueStatsEntry,
    QueueStatsReply,
    QueueStatsRequest,
)
from libnetvirt.openflow.text import (
    actions_text,
    format_flow,
    instructions_text,
    mac_text,
    match_text,
    port_text,
)

# fmt: off
__all__ = [
    "ALL_QUEUES", "ALL_TABLES", "BUNDLE_ADD", "BUNDLE_CONTROL", "CONTROLLER_MAX_LENGTH",
    "CONTROLLER_NO_BUFFER", "DEFAULT_PRIORITY", "ERROR_CODES", "FIELDS", "HEADER", "MAX_MESSAGE_LENGTH",
    "MESSAGES", "NICIRA_EXPERIMENTER", "NO_BUFFER", "OFP_VERSION", "ONF_EXPERIMENTER", "VLAN_NONE",
    "VLAN_PRESENT", "Action", "ActionType", "AggregateStatsReply", "AggregateStatsRequest",
    "ApplyActions", "BadAction", "BadInstruction", "BadMatch", "BadRequest", "Band", "BandStats",
    "BandType", "BarrierReply", "BarrierRequest", "Bucket", "BucketStats", "BundleAdd", "BundleControl",
    "BundleCtrlType", "BundleFailed", "BundleFlags", "Capabilities", "Channel", "ChannelState",
    "ClearActions", "ConfigFlags", "ControllerRole", "CopyTtlIn", "CopyTtlOut", "DecMplsTtl",
    "DecNwTtl", "DescReply", "DescRequest", "DropBand", "DscpRemarkBand", "EchoReply", "EchoRequest",
    "Error", "ErrorType", "Event", "Experimenter", "ExperimenterBand", "ExperimenterError",
    "ExperimenterInstruction", "ExperimenterMessage", "FaultKind", "FeaturesReply", "FeaturesRequest",
    "FlowMod", "FlowModCommand", "FlowModFailed", "FlowModFlags", "FlowRemoved", "FlowRemovedReason",
    "FlowStatsEntry", "FlowStatsReply", "FlowStatsRequest", "Framer", "GetAsyncReply",
    "GetAsyncRequest", "GetConfigReply", "GetConfigRequest", "GotoTable", "Group", "GroupCapabilities",
    "GroupDesc", "GroupDescReply", "GroupDescRequest", "GroupFeaturesReply", "GroupFeaturesRequest",
    "GroupId", "GroupMod", "GroupModCommand", "GroupModFailed", "GroupStatsEntry", "GroupStatsReply",
    "GroupStatsRequest", "GroupType", "HandshakeDone", "Hello", "HelloElement", "HelloFailed",
    "Instruction", "InstructionType", "Malformed", "Match", "MaxRate", "Message", "Meter",
    "MeterConfig", "MeterConfigReply", "MeterConfigRequest", "MeterFeaturesReply",
    "MeterFeaturesRequest", "MeterFlags", "MeterId", "MeterMod", "MeterModCommand", "MeterModFailed",
    "MeterStatsEntry", "MeterStatsReply", "MeterStatsRequest", "MinRate", "MsgType", "Multipart",
    "MultipartAssembler", "MultipartFlags", "MultipartReply", "MultipartRequest", "MultipartType",
    "Output", "OxmField", "PacketIn", "PacketInHead", "PacketInReason", "PacketOut", "PacketQueue",
    "PeerClosed", "PeerDead", "PopMpls", "PopPbb", "PopVlan", "Port", "PortConfig", "PortDesc",
    "PortDescReply", "PortDescRequest", "PortFeatures", "PortMod", "PortModFailed", "PortState",
    "PortStatsEntry", "PortStatsReply", "PortStatsRequest", "PortStatus", "PortStatusReason",
    "ProtocolError", "PushMpls", "PushPbb", "PushVlan", "QueueGetConfigReply", "QueueGetConfigRequest",
    "QueueOpFailed", "QueueProperty", "QueueStatsEntry", "QueueStatsReply", "QueueStatsRequest",
    "RecordsReply", "Refused", "RoleReply", "RoleRequest", "RoleRequestFailed", "SetAsync", "SetConfig",
    "SetField",
    "SetMplsTtl", "SetNwTtl", "SetQueue", "SwitchConfigFailed", "TableFeatureType", "TableFeatures",
    "TableFeaturesFailed", "TableFeaturesReply", "TableFeaturesRequest", "TableMod", "TableModFailed",
    "TableProperty", "TableStatsEntry", "TableStatsReply", "TableStatsRequest", "UnknownAction",
    "UnknownBand", "UnknownInstruction", "UnknownMessage", "UnknownQueueProperty", "WriteActions",
    "WriteMetadata", "actions_text", "constants", "decode", "description_records", "error_text",
    "flow_records", "format_flow", "instructions_text", "mac_text", "match_text", "packet_count", "port_text",
]
# fmt: on
