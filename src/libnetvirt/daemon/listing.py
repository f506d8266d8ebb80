"""The lists of networks and of operations: filtered, and in pages.

A page of networks is ordered by name, and the next one begins after its last name. So networks that are
created or removed meanwhile move no other one to another page; one that gets another name may be missed, or
come twice. Operations have numbers for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request

from libnetvirt.daemon.wire import OperationReport, OperationState
from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.model import Forwarding, State, VirtualNetwork

#: Most networks of a page.
LIMIT: Final = 1000
#: Longest value of a filter in characters.
LONGEST: Final = 256


def whole_number(value: Any) -> Any:
    """Raises ValueError if a parameter is no whole number."""
    # What is read is text, in which pydantic accepts "1.0" and "1_0" as well.
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError(f"{value[:20]!r} is not a whole number")
    return value


def check_once(request: Request) -> None:
    """Raises InvalidDescription if a parameter is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidDescription([Fault("is given twice", f"query/{name[:LONGEST]}") for name in twice])


def _absent() -> Any:
    # A factory, because OpenAPI would tell a default that is no allowed value.
    return None


_Text = Annotated[str, Field(min_length=1, max_length=LONGEST, default_factory=_absent)]


class ListQuery(BaseModel):
    """Which networks are listed, and how many. What is not given is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT), BeforeValidator(whole_number)] = Field(
        default_factory=_absent,
        description="At most so many, ordered by name. The header Link leads to the next page, if any.",
    )
    after: _Text = Field(description="Only networks whose name comes after this one; ordered by name.")
    name: _Text = Field(description="Only networks with this name; * and ? stand for anything, as in *-test.")
    switch: _Text = Field(description="Only networks with an endpoint on this switch, as endpoints name it.")
    status: State = Field(default_factory=_absent, description="Only networks in this state.")
    forwarding: Forwarding = Field(
        default_factory=_absent, description="Only networks that forward like this."
    )

    @property
    def _paged(self) -> bool:
        return self.limit is not None or self.after is not None

    def _fits(self, network: VirtualNetwork) -> bool:
        return (
            (self.after is None or network.name > self.after)
            and (self.forwarding is None or network.forwarding is self.forwarding)
            and (self.name is None or fnmatchcase(network.name, self.name))
            and (self.switch is None or any(e.switch == self.switch for e in network.endpoints))
        )

    def select(
        self, networks: Sequence[VirtualNetwork], states: Mapping[str, State]
    ) -> tuple[Sequence[VirtualNetwork], dict[str, str]]:
        """The networks to list, of those that the client sees, and headers.

        ``states``: that of each network, if the query is for one.
        """
        found = [
            one for one in networks
            if self._fits(one) and (self.status is None or states.get(one.uuid) is self.status)
        ]  # fmt: skip
        if not self._paged:
            return found, {}
        found.sort(key=lambda one: one.name)
        if self.limit is None or len(found) <= self.limit:
            return found, {}
        page = found[: self.limit]
        return page, {"link": f'<?{self._after(page[-1].name)}>; rel="next"'}

    def _after(self, name: str) -> str:
        query = self.model_dump(mode="json", exclude_unset=True) | {"after": name}
        # What follows may be read by a shell, or be part of a header: nothing but letters, digits and _.-~%
        return urlencode(query, safe="")


class OperationsQuery(BaseModel):
    """Which operations are listed, and how many. What is not given is None."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT), BeforeValidator(whole_number)] = Field(
        default_factory=_absent,
        description="At most so many. The header Link leads to the next page, if any.",
    )
    after: Annotated[int, Field(ge=0, le=2**63 - 1), BeforeValidator(whole_number)] = Field(
        default_factory=_absent, description="Only operations with a greater number than this one."
    )
    state: OperationState = Field(default_factory=_absent, description="Only operations in this state.")

    def select(
        self, operations: Sequence[OperationReport]
    ) -> tuple[Sequence[OperationReport], dict[str, str]]:
        """The operations to list, of those that the client sees, in their order; and headers."""
        found = [
            one for one in operations
            if (self.after is None or one.number > self.after)
            and (self.state is None or one.state is self.state)
        ]  # fmt: skip
        if self.limit is None or len(found) <= self.limit:
            return found, {}
        page = found[: self.limit]
        query = self.model_dump(mode="json", exclude_unset=True) | {"after": page[-1].number}
        return page, {"link": f'<?{urlencode(query, safe="")}>; rel="next"'}
