"""Protocol errors: `ProtocolError` for malformed input, and the types and codes of ERROR messages.

The types and codes are those of OpenFlow 1.3.5, section 7.4.4, and, for bundles, of ONF EXT-230.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final


class FaultKind(StrEnum):
    """The kind of a `ProtocolError`; a stable value for programs."""

    LENGTH = "length"
    VERSION = "version"
    VALUE = "value"
    STATE = "state"
    LIMIT = "limit"


class ProtocolError(Exception):
    """Raised for bytes that are not valid OpenFlow 1.3.

    `text` describes the fault, `xid` is the message's transaction id (0 if it is not known), `kind` is a
    `FaultKind`.
    """

    def __init__(self, text: str, xid: int = 0, kind: FaultKind = FaultKind.LENGTH) -> None:
        super().__init__(text)
        self.text = text
        self.xid = xid
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.text} (xid {self.xid:#x})" if self.xid else self.text


class ErrorType(IntEnum):
    """The type of an ERROR message (section 7.4.4)."""

    HELLO_FAILED = 0
    BAD_REQUEST = 1
    BAD_ACTION = 2
    BAD_INSTRUCTION = 3
    BAD_MATCH = 4
    FLOW_MOD_FAILED = 5
    GROUP_MOD_FAILED = 6
    PORT_MOD_FAILED = 7
    TABLE_MOD_FAILED = 8
    QUEUE_OP_FAILED = 9
    SWITCH_CONFIG_FAILED = 10
    ROLE_REQUEST_FAILED = 11
    METER_MOD_FAILED = 12
    TABLE_FEATURES_FAILED = 13
    EXPERIMENTER = 0xFFFF


class HelloFailed(IntEnum):
    """Codes of HELLO_FAILED; the body of such an ERROR is a text."""

    INCOMPATIBLE = 0
    EPERM = 1


class BadRequest(IntEnum):
    """Codes of BAD_REQUEST."""

    BAD_VERSION = 0
    BAD_TYPE = 1
    BAD_MULTIPART = 2
    BAD_EXPERIMENTER = 3
    BAD_EXP_TYPE = 4
    EPERM = 5
    BAD_LEN = 6
    BUFFER_EMPTY = 7
    BUFFER_UNKNOWN = 8
    BAD_TABLE_ID = 9
    IS_SLAVE = 10
    BAD_PORT = 11
    BAD_PACKET = 12
    MULTIPART_BUFFER_OVERFLOW = 13


class BadAction(IntEnum):
    """Codes of BAD_ACTION."""

    BAD_TYPE = 0
    BAD_LEN = 1
    BAD_EXPERIMENTER = 2
    BAD_EXP_TYPE = 3
    BAD_OUT_PORT = 4
    BAD_ARGUMENT = 5
    EPERM = 6
    TOO_MANY = 7
    BAD_QUEUE = 8
    BAD_OUT_GROUP = 9
    MATCH_INCONSISTENT = 10
    UNSUPPORTED_ORDER = 11
    BAD_TAG = 12
    BAD_SET_TYPE = 13
    BAD_SET_LEN = 14
    BAD_SET_ARGUMENT = 15


class BadInstruction(IntEnum):
    """Codes of BAD_INSTRUCTION."""

    UNKNOWN_INST = 0
    UNSUP_INST = 1
    BAD_TABLE_ID = 2
    UNSUP_METADATA = 3
    UNSUP_METADATA_MASK = 4
    BAD_EXPERIMENTER = 5
    BAD_EXP_TYPE = 6
    BAD_LEN = 7
    EPERM = 8
    DUP_INST = 9


class BadMatch(IntEnum):
    """Codes of BAD_MATCH."""

    BAD_TYPE = 0
    BAD_LEN = 1
    BAD_TAG = 2
    BAD_DL_ADDR_MASK = 3
    BAD_NW_ADDR_MASK = 4
    BAD_WILDCARDS = 5
    BAD_FIELD = 6
    BAD_VALUE = 7
    BAD_MASK = 8
    BAD_PREREQ = 9
    DUP_FIELD = 10
    EPERM = 11


class FlowModFailed(IntEnum):
    """Codes of FLOW_MOD_FAILED."""

    UNKNOWN = 0
    TABLE_FULL = 1
    BAD_TABLE_ID = 2
    OVERLAP = 3
    EPERM = 4
    BAD_TIMEOUT = 5
    BAD_COMMAND = 6
    BAD_FLAGS = 7


class GroupModFailed(IntEnum):
    """Codes of GROUP_MOD_FAILED."""

    GROUP_EXISTS = 0
    INVALID_GROUP = 1
    WEIGHT_UNSUPPORTED = 2
    OUT_OF_GROUPS = 3
    OUT_OF_BUCKETS = 4
    CHAINING_UNSUPPORTED = 5
    WATCH_UNSUPPORTED = 6
    LOOP = 7
    UNKNOWN_GROUP = 8
    CHAINED_GROUP = 9
    BAD_TYPE = 10
    BAD_COMMAND = 11
    BAD_BUCKET = 12
    BAD_WATCH = 13
    EPERM = 14


class PortModFailed(IntEnum):
    """Codes of PORT_MOD_FAILED."""

    BAD_PORT = 0
    BAD_HW_ADDR = 1
    BAD_CONFIG = 2
    BAD_ADVERTISE = 3
    EPERM = 4


class TableModFailed(IntEnum):
    """Codes of TABLE_MOD_FAILED."""

    BAD_TABLE = 0
    BAD_CONFIG = 1
    EPERM = 2


class QueueOpFailed(IntEnum):
    """Codes of QUEUE_OP_FAILED."""

    BAD_PORT = 0
    BAD_QUEUE = 1
    EPERM = 2


class SwitchConfigFailed(IntEnum):
    """Codes of SWITCH_CONFIG_FAILED."""

    BAD_FLAGS = 0
    BAD_LEN = 1
    EPERM = 2


class RoleRequestFailed(IntEnum):
    """Codes of ROLE_REQUEST_FAILED."""

    STALE = 0
    UNSUP = 1
    BAD_ROLE = 2


class MeterModFailed(IntEnum):
    """Codes of METER_MOD_FAILED."""

    UNKNOWN = 0
    METER_EXISTS = 1
    INVALID_METER = 2
    UNKNOWN_METER = 3
    BAD_COMMAND = 4
    BAD_FLAGS = 5
    BAD_RATE = 6
    BAD_BURST = 7
    BAD_BAND = 8
    BAD_BAND_VALUE = 9
    OUT_OF_METERS = 10
    OUT_OF_BANDS = 11


class TableFeaturesFailed(IntEnum):
    """Codes of TABLE_FEATURES_FAILED."""

    BAD_TABLE = 0
    BAD_METADATA = 1
    BAD_TYPE = 2
    BAD_LEN = 3
    BAD_ARGUMENT = 4
    EPERM = 5


class BundleFailed(IntEnum):
    """Values of `exp_type` in the ONF's experimenter errors about bundles (EXT-230)."""

    UNKNOWN = 2300
    EPERM = 2301
    BAD_ID = 2302
    BUNDLE_EXIST = 2303
    BUNDLE_CLOSED = 2304
    OUT_OF_BUNDLES = 2305
    BAD_TYPE = 2306
    BAD_FLAGS = 2307
    MSG_BAD_LEN = 2308
    MSG_BAD_XID = 2309
    MSG_UNSUP = 2310
    MSG_CONFLICT = 2311
    MSG_TOO_MANY = 2312
    MSG_FAILED = 2313
    TIMEOUT = 2314
    BUNDLE_IN_PROGRESS = 2315


ERROR_CODES: Final[Mapping[int, type[IntEnum]]] = MappingProxyType(
    {
        ErrorType.HELLO_FAILED: HelloFailed,
        ErrorType.BAD_REQUEST: BadRequest,
        ErrorType.BAD_ACTION: BadAction,
        ErrorType.BAD_INSTRUCTION: BadInstruction,
        ErrorType.BAD_MATCH: BadMatch,
        ErrorType.FLOW_MOD_FAILED: FlowModFailed,
        ErrorType.GROUP_MOD_FAILED: GroupModFailed,
        ErrorType.PORT_MOD_FAILED: PortModFailed,
        ErrorType.TABLE_MOD_FAILED: TableModFailed,
        ErrorType.QUEUE_OP_FAILED: QueueOpFailed,
        ErrorType.SWITCH_CONFIG_FAILED: SwitchConfigFailed,
        ErrorType.ROLE_REQUEST_FAILED: RoleRequestFailed,
        ErrorType.METER_MOD_FAILED: MeterModFailed,
        ErrorType.TABLE_FEATURES_FAILED: TableFeaturesFailed,
    }
)
"""The enumeration of codes for each type of ERROR."""


def error_text(kind: int, code: int) -> str:
    """Return the names of an ERROR's type and code, as in ``FLOW_MOD_FAILED/TABLE_FULL``.

    A type or code without a name is given as a number.
    """
    try:
        name = ErrorType(kind).name
    except ValueError:
        return f"{kind}/{code}"
    codes = ERROR_CODES.get(kind)
    try:
        return f"{name}/{codes(code).name}" if codes is not None else f"{name}/{code}"
    except ValueError:
        return f"{name}/{code}"
