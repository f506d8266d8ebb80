"""Requests and replies of the daemon's interface, apart from the model."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, TypeAdapter

from libnetvirt.driver import Change
from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.formats import json
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.element import Element
from libnetvirt.model.report import Report

#: Version of the interface. Incremented when old and new clients or servers would misunderstand each other.
INTERFACE = 1
#: Largest request in bytes: two descriptions of 100,000 endpoints with several addresses each.
MAX_BODY = 128 * 2**20

ANY: TypeAdapter[Any] = TypeAdapter(Any)
E = TypeVar("E", bound=Element)


class Version(Report):
    """The server: the library's ``version``, the version of this ``interface`` and the ``driver``'s name."""

    version: str
    interface: int
    driver: str


class Outcome(Report):
    """The outcome of a withdrawn operation: ``undone``, ``done`` or ``failed``."""

    outcome: str


class ConnectionReport(Report):
    """A connection of the server. ``open``: whether it can be used; ``reason``: else why not."""

    name: str
    uri: str
    open: bool
    reason: str = ""


class AccessReport(Report):
    """What a client may do. ``token``: the name of its token, empty where none is needed. ``networks`` and
    ``connections``: what it is limited to, all if empty."""

    token: str = ""
    role: Literal["read", "operate", "admin"] = "admin"
    networks: tuple[str, ...] = ()
    connections: tuple[str, ...] = ()


class ConfigurationReport(Report):
    """The configuration in use, with the keys of its ``file``, which is empty if there is none."""

    file: str
    configuration: dict[str, Any]


class Flaw(Report):
    """One fault: the ``text``, the ``path`` of what it is in, its ``file`` and ``line``, if known."""

    text: str
    path: str = ""
    file: str = ""
    line: int = 0


class Problem(Report):
    """An error, as a problem document (RFC 9457): a stable ``code``, which gives ``type`` and ``title``;
    a ``detail`` for people, and the same as ``message``; every one of the ``faults`` of an invalid request.
    ``network`` and ``endpoint``: which endpoint has the place that another one claims. ``leader``: where the
    controller is that leads, if this one does not."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    message: str
    faults: tuple[Flaw, ...] = ()
    network: str = ""
    endpoint: str = ""
    leader: str = ""


class OperationState(StrEnum):
    """The state of an operation: ``running``, or how it has ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class OperationKind(StrEnum):
    """What was asked for."""

    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    REPAIR = "repair"
    RELOAD = "reload"
    ADOPT = "adopt"
    FORGET = "forget"


class Progress(Report):
    """How far an operation is: ``done`` of ``all`` its steps."""

    done: int
    all: int


class OperationReport(Report):
    """An operation. ``id``: also in the log and in events. ``number``: operations are counted from the start
    of the server on. ``network`` and ``name``: what it is about, empty if that is not one network. ``token``:
    the name of the token of the client that asked for it, empty for one on the unix socket. ``began`` and
    ``ended``: seconds since the epoch.

    ``progress``: how many of its rounds the switches have confirmed, if the driver tells. ``result``: what
    was done, a line each, if it succeeded and there is more to tell; ``etag``: that of the network, if the
    request had ``If-Match``. ``problem``: why it failed.
    """

    id: str
    number: int
    kind: OperationKind
    state: OperationState
    network: str = ""
    name: str = ""
    token: str = ""
    began: float
    ended: float | None = None
    progress: Progress | None = None
    result: tuple[str, ...] = ()
    etag: str = ""
    problem: Problem | None = None


class ChangeRequest(Element):
    """One atomic operation: the network ``before`` it (null: create) and ``after`` it (null: remove)."""

    ELEMENT: ClassVar[str] = "change"

    before: VirtualNetwork | None = None
    after: VirtualNetwork | None = None
    pending: bool = Field(default=False, strict=True)


class RepairRequest(Element):
    """Repair one network, or all (null); with ``orphans`` also remove what belongs to no network."""

    ELEMENT: ClassVar[str] = "repair"

    network: str | None = None
    orphans: bool = Field(default=False, strict=True)


class VerificationRequest(Element):
    """Verify these networks, or all if there are none."""

    ELEMENT: ClassVar[str] = "verification"

    networks: tuple[str, ...] = ()


class DecisionRequest(Element):
    """Take over (``adopt``) or leave (``forget``) a switch that another controller uses, or all (null)."""

    ELEMENT: ClassVar[str] = "decision"

    switch: str | None = None
    decision: Literal["adopt", "forget"]


class ReloadRequest(Element):
    """Reload the operator's files; refuse if constraints no longer fit, or ``degrade`` these. ``dry-run``:
    tell what would be done, and change nothing."""

    ELEMENT: ClassVar[str] = "reload"

    degrade: bool = Field(default=False, strict=True)
    dry_run: bool = Field(default=False, strict=True)


def parse(kind: type[E], body: bytes) -> E:
    """Parse the body of a request. Raises InvalidDescription with every fault."""
    try:
        document, repeated = json.load(body.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidDescription([Fault("is not JSON in UTF-8", "body")]) from None
    except InvalidDescription as error:
        raise InvalidDescription(replace(fault, path="body") for fault in error.faults) from None
    if repeated:
        raise InvalidDescription(replace(fault, path="body") for fault in repeated)
    return kind.model_validate(document)


def parse_change(body: bytes) -> Change:
    """Parse the body of a change. Raises InvalidDescription with every fault."""
    request = parse(ChangeRequest, body)
    before, after = request.before, request.after
    if before is None and after is None:
        raise InvalidDescription(
            [
                Fault(
                    "has neither before nor after: give before to remove, after to create, both to change",
                    "change",
                )
            ]
        )
    if before is not None and after is not None and before.uuid != after.uuid:
        raise InvalidDescription(
            [
                Fault(
                    f"before is network {before.uuid} and after {after.uuid}: one network is required",
                    "change",
                )
            ]
        )
    return Change(before, after, request.pending)


def dump(value: Any) -> bytes:
    """Serialise a model, or a sequence of models, as JSON with hyphenated names and without nulls."""
    return ANY.dump_json(value, by_alias=True, exclude_none=True)
