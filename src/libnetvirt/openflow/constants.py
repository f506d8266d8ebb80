"""The constants of OpenFlow 1.3.5 (section 7 and appendix A), most of them as enumerations.

Decoded messages have plain ints in their fields, so a value that is not defined here is kept as it is. An
`IntEnum` member compares equal to its int.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

OFP_VERSION: Final = 0x04
"""The wire version of OpenFlow 1.3."""

HEADER_LENGTH: Final = 8
"""The length of the header of every message, in bytes (section 7.1)."""

MAX_MESSAGE_LENGTH: Final = 0xFFFF
"""The maximum length of a message, in bytes: the header's length field has 16 bits (section 7.1)."""

NO_BUFFER: Final = 0xFFFFFFFF
"""`buffer_id` of a packet that is not buffered in the switch (section 7.2.6)."""

CONTROLLER_MAX_LENGTH: Final = 0xFFE5
"""The largest `max_len` of an output to the controller that means a number of bytes (section 7.2.5)."""

CONTROLLER_NO_BUFFER: Final = 0xFFFF
"""`max_len` that means: send the whole packet to the controller, unbuffered (section 7.2.5)."""

VLAN_PRESENT: Final = 0x1000
"""The bit of `vlan_vid` that is set if the frame has a tag (section 7.2.3.7)."""

VLAN_NONE: Final = 0x0000
"""`vlan_vid` of an untagged frame (section 7.2.3.7)."""

DEFAULT_PRIORITY: Final = 0x8000
"""The default priority of a rule."""

ALL_TABLES: Final = 0xFF
"""`table_id` that means all tables, in deletes and statistics requests (section 7.3.4.1)."""

ALL_QUEUES: Final = 0xFFFFFFFF
"""`queue_id` that means all queues, in statistics requests (section 7.3.5.8)."""

ONF_EXPERIMENTER: Final = 0x4F4E4600
"""The experimenter number of the ONF's own extensions."""

NICIRA_EXPERIMENTER: Final = 0x00002320
"""The experimenter number of Open vSwitch's extensions."""

BUNDLE_CONTROL: Final = 2300
"""`exp_type` of a bundle control message (ONF EXT-230)."""

BUNDLE_ADD: Final = 2301
"""`exp_type` of a message that adds another message to a bundle (ONF EXT-230)."""


class MsgType(IntEnum):
    """Message types (section 7.1)."""

    HELLO = 0
    ERROR = 1
    ECHO_REQUEST = 2
    ECHO_REPLY = 3
    EXPERIMENTER = 4
    FEATURES_REQUEST = 5
    FEATURES_REPLY = 6
    GET_CONFIG_REQUEST = 7
    GET_CONFIG_REPLY = 8
    SET_CONFIG = 9
    PACKET_IN = 10
    FLOW_REMOVED = 11
    PORT_STATUS = 12
    PACKET_OUT = 13
    FLOW_MOD = 14
    GROUP_MOD = 15
    PORT_MOD = 16
    TABLE_MOD = 17
    MULTIPART_REQUEST = 18
    MULTIPART_REPLY = 19
    BARRIER_REQUEST = 20
    BARRIER_REPLY = 21
    QUEUE_GET_CONFIG_REQUEST = 22
    QUEUE_GET_CONFIG_REPLY = 23
    ROLE_REQUEST = 24
    ROLE_REPLY = 25
    GET_ASYNC_REQUEST = 26
    GET_ASYNC_REPLY = 27
    SET_ASYNC = 28
    METER_MOD = 29


class HelloElement(IntEnum):
    """Elements of HELLO (section 7.5.1)."""

    VERSION_BITMAP = 1


class Port(IntEnum):
    """Reserved port numbers (section 7.2.1)."""

    MAX = 0xFFFFFF00
    IN_PORT = 0xFFFFFFF8
    TABLE = 0xFFFFFFF9
    NORMAL = 0xFFFFFFFA
    FLOOD = 0xFFFFFFFB
    ALL = 0xFFFFFFFC
    CONTROLLER = 0xFFFFFFFD
    LOCAL = 0xFFFFFFFE
    ANY = 0xFFFFFFFF


class PortConfig(IntFlag):
    """Administrative settings of a port (section 7.2.1)."""

    PORT_DOWN = 1 << 0
    NO_RECV = 1 << 2
    NO_FWD = 1 << 5
    NO_PACKET_IN = 1 << 6


class PortState(IntFlag):
    """The state of a port (section 7.2.1)."""

    LINK_DOWN = 1 << 0
    BLOCKED = 1 << 1
    LIVE = 1 << 2


class PortFeatures(IntFlag):
    """Rates and media of a port (section 7.2.1)."""

    HD_10MB = 1 << 0
    FD_10MB = 1 << 1
    HD_100MB = 1 << 2
    FD_100MB = 1 << 3
    HD_1GB = 1 << 4
    FD_1GB = 1 << 5
    FD_10GB = 1 << 6
    FD_40GB = 1 << 7
    FD_100GB = 1 << 8
    FD_1TB = 1 << 9
    OTHER = 1 << 10
    COPPER = 1 << 11
    FIBER = 1 << 12
    AUTONEG = 1 << 13
    PAUSE = 1 << 14
    PAUSE_ASYM = 1 << 15


class PortStatusReason(IntEnum):
    """Reasons of PORT_STATUS (section 7.4.3)."""

    ADD = 0
    DELETE = 1
    MODIFY = 2


class Capabilities(IntFlag):
    """Capabilities of a switch (section 7.3.1)."""

    FLOW_STATS = 1 << 0
    TABLE_STATS = 1 << 1
    PORT_STATS = 1 << 2
    GROUP_STATS = 1 << 3
    IP_REASM = 1 << 5
    QUEUE_STATS = 1 << 6
    PORT_BLOCKED = 1 << 8


class ConfigFlags(IntEnum):
    """How a switch treats IP fragments (section 7.3.2)."""

    FRAG_NORMAL = 0
    FRAG_DROP = 1
    FRAG_REASM = 2


class ActionType(IntEnum):
    """Action types (section 7.2.5)."""

    OUTPUT = 0
    COPY_TTL_OUT = 11
    COPY_TTL_IN = 12
    SET_MPLS_TTL = 15
    DEC_MPLS_TTL = 16
    PUSH_VLAN = 17
    POP_VLAN = 18
    PUSH_MPLS = 19
    POP_MPLS = 20
    SET_QUEUE = 21
    GROUP = 22
    SET_NW_TTL = 23
    DEC_NW_TTL = 24
    SET_FIELD = 25
    PUSH_PBB = 26
    POP_PBB = 27
    EXPERIMENTER = 0xFFFF


class InstructionType(IntEnum):
    """Instruction types (section 7.2.4)."""

    GOTO_TABLE = 1
    WRITE_METADATA = 2
    WRITE_ACTIONS = 3
    APPLY_ACTIONS = 4
    CLEAR_ACTIONS = 5
    METER = 6
    EXPERIMENTER = 0xFFFF


class FlowModCommand(IntEnum):
    """Commands of FLOW_MOD (section 7.3.4.1)."""

    ADD = 0
    MODIFY = 1
    MODIFY_STRICT = 2
    DELETE = 3
    DELETE_STRICT = 4


class FlowModFlags(IntFlag):
    """Flags of a rule (section 7.3.4.1)."""

    SEND_FLOW_REM = 1 << 0
    CHECK_OVERLAP = 1 << 1
    RESET_COUNTS = 1 << 2
    NO_PKT_COUNTS = 1 << 3
    NO_BYT_COUNTS = 1 << 4


class FlowRemovedReason(IntEnum):
    """Reasons of FLOW_REMOVED (section 7.4.2)."""

    IDLE_TIMEOUT = 0
    HARD_TIMEOUT = 1
    DELETE = 2
    GROUP_DELETE = 3
    METER_DELETE = 4
    EVICTION = 5


class PacketInReason(IntEnum):
    """Reasons of PACKET_IN (section 7.4.1)."""

    NO_MATCH = 0
    ACTION = 1
    INVALID_TTL = 2


class GroupModCommand(IntEnum):
    """Commands of GROUP_MOD (section 7.3.4.2)."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


class GroupType(IntEnum):
    """Group types: how a group chooses among its buckets (section 7.3.4.2)."""

    ALL = 0
    SELECT = 1
    INDIRECT = 2
    FF = 3


class GroupId(IntEnum):
    """Reserved group numbers (section 7.3.4.2)."""

    MAX = 0xFFFFFF00
    ALL = 0xFFFFFFFC
    ANY = 0xFFFFFFFF


class GroupCapabilities(IntFlag):
    """Group capabilities of a switch (section 7.3.5.11)."""

    SELECT_WEIGHT = 1 << 0
    SELECT_LIVENESS = 1 << 1
    CHAINING = 1 << 2
    CHAINING_CHECKS = 1 << 3


class MeterModCommand(IntEnum):
    """Commands of METER_MOD (section 7.3.4.4)."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


class MeterId(IntEnum):
    """Reserved meter numbers (section 7.3.4.4)."""

    MAX = 0xFFFF0000
    SLOWPATH = 0xFFFFFFFD
    CONTROLLER = 0xFFFFFFFE
    ALL = 0xFFFFFFFF


class MeterFlags(IntFlag):
    """Flags of a meter: units and options (section 7.3.4.4)."""

    KBPS = 1 << 0
    PKTPS = 1 << 1
    BURST = 1 << 2
    STATS = 1 << 3


class BandType(IntEnum):
    """Types of meter bands (section 7.3.4.4)."""

    DROP = 1
    DSCP_REMARK = 2
    EXPERIMENTER = 0xFFFF


class ControllerRole(IntEnum):
    """Roles of a controller (section 7.3.9)."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3


class MultipartType(IntEnum):
    """Multipart types (section 7.3.5)."""

    DESC = 0
    FLOW = 1
    AGGREGATE = 2
    TABLE = 3
    PORT_STATS = 4
    QUEUE = 5
    GROUP = 6
    GROUP_DESC = 7
    GROUP_FEATURES = 8
    METER = 9
    METER_CONFIG = 10
    METER_FEATURES = 11
    TABLE_FEATURES = 12
    PORT_DESC = 13
    EXPERIMENTER = 0xFFFF


class MultipartFlags(IntFlag):
    """The only flag of multipart requests and replies (section 7.3.5)."""

    MORE = 1 << 0


class TableFeatureType(IntEnum):
    """Properties in table features (section 7.3.5.5.2)."""

    INSTRUCTIONS = 0
    INSTRUCTIONS_MISS = 1
    NEXT_TABLES = 2
    NEXT_TABLES_MISS = 3
    WRITE_ACTIONS = 4
    WRITE_ACTIONS_MISS = 5
    APPLY_ACTIONS = 6
    APPLY_ACTIONS_MISS = 7
    MATCH = 8
    WILDCARDS = 10
    WRITE_SETFIELD = 12
    WRITE_SETFIELD_MISS = 13
    APPLY_SETFIELD = 14
    APPLY_SETFIELD_MISS = 15
    EXPERIMENTER = 0xFFFE
    EXPERIMENTER_MISS = 0xFFFF


class QueueProperty(IntEnum):
    """Properties of a queue (section 7.2.2)."""

    MIN_RATE = 1
    MAX_RATE = 2
    EXPERIMENTER = 0xFFFF


class BundleCtrlType(IntEnum):
    """Types of bundle control messages (ONF EXT-230; as OpenFlow 1.4, section 7.3.9)."""

    OPEN_REQUEST = 0
    OPEN_REPLY = 1
    CLOSE_REQUEST = 2
    CLOSE_REPLY = 3
    COMMIT_REQUEST = 4
    COMMIT_REPLY = 5
    DISCARD_REQUEST = 6
    DISCARD_REPLY = 7


class BundleFlags(IntFlag):
    """Flags of a bundle: atomic or ordered (ONF EXT-230)."""

    ATOMIC = 1 << 0
    ORDERED = 1 << 1
