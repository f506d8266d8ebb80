"""What travels over the daemon's interface, besides the model itself."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from pydantic import Field, TypeAdapter

from libnetvirt.driver import Change
from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.model import VirtualNetwork
from libnetvirt.model.element import Element
from libnetvirt.model.report import Report

#: Grows when an old client or server would misunderstand a new one.
INTERFACE = 1
#: Largest request, in octets: two descriptions of 100,000 endpoints with several addresses each.
MAX_BODY = 128 * 2**20

ANY: TypeAdapter[Any] = TypeAdapter(Any)


class Version(Report):
    """Who serves: the library's ``version``, the number of this ``interface``, the ``driver``'s name."""

    version: str
    interface: int
    driver: str


class Outcome(Report):
    """How a withdrawn operation ended: ``undone``, ``done`` or ``failed``."""

    outcome: str


class Problem(Report):
    """An error: a stable ``code``, a ``message`` for people, and for descriptions every fault."""

    code: str
    message: str
    faults: tuple[dict[str, str | int], ...] = ()


class ChangeRequest(Element):
    """One atomic operation: a network before it (null: create) and after it (null: remove)."""

    ELEMENT: ClassVar[str] = "change"

    before: VirtualNetwork | None = None
    after: VirtualNetwork | None = None
    pending: bool = Field(default=False, strict=True)


class RepairRequest(Element):
    """Put one network right, or (null) all, and then perhaps remove what no network needs."""

    ELEMENT: ClassVar[str] = "repair"

    network: str | None = None
    orphans: bool = Field(default=False, strict=True)


class ReloadRequest(Element):
    """Read the operator's files again; what can be kept no more is degraded, or the reason to refuse it."""

    ELEMENT: ClassVar[str] = "reload"

    degrade: bool = Field(default=False, strict=True)


def parse_reload(body: bytes) -> ReloadRequest:
    """Read a request's body. Raises InvalidDescription that lists every fault."""
    return ReloadRequest.model_validate(_document(body))


def parse_repair(body: bytes) -> RepairRequest:
    """Read a request's body. Raises InvalidDescription that lists every fault."""
    return RepairRequest.model_validate(_document(body))


def parse_change(body: bytes) -> Change:
    """Read a request's body. Raises InvalidDescription that lists every fault."""
    request = ChangeRequest.model_validate(_document(body))
    before, after = request.before, request.after
    if before is None and after is None:
        raise InvalidDescription(
            [Fault("has neither before nor after: give before to remove, after to create, or both", "change")]
        )
    if before is not None and after is not None and before.uuid != after.uuid:
        raise InvalidDescription(
            [Fault(f"is from network {before.uuid} to network {after.uuid}: one is wanted", "change")]
        )
    return Change(before, after, request.pending)


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidDescription(f"the body is not JSON: {error}") from None


def dump(value: Any) -> bytes:
    """JSON of a model or a sequence of them: hyphenated names, nothing that is null."""
    return ANY.dump_json(value, by_alias=True, exclude_none=True)
