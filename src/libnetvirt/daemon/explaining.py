"""The question that an explanation answers, as it is asked by the query of a request."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from libnetvirt.daemon.listing import LONGEST
from libnetvirt.model import Traffic


def _absent() -> Any:
    # A factory, because OpenAPI would tell a default that is no allowed value.
    return None


_Needed = Annotated[str, Field(min_length=1, max_length=LONGEST)]
_Text = Annotated[str, Field(min_length=1, max_length=LONGEST, default_factory=_absent)]


class ExplanationQuery(BaseModel):
    """Between which endpoints, and which frames. What is not given is None."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    source: _Needed = Field(description="UUID of the endpoint that sends.")
    destination: _Needed = Field(description="UUID of the endpoint that receives.")
    mac: _Text = Field(description="MAC address of the host at the destination.")
    from_mac: _Text = Field(description="MAC address of the host at the source.")
    ip: _Text = Field(description="IP address of the host at the destination.")
    from_ip: _Text = Field(description="IP address of the host at the source.")
    size: _Text = Field(description="Bytes of the IP packet.")
    vlan: _Text = Field(description="The tag that the source sends instead of its endpoint's; 0: none.")

    def traffic(self) -> Traffic:
        """The frames that are asked about. Raises InvalidDescription."""
        given = self.model_dump(by_alias=True, exclude_unset=True, exclude={"source", "destination"})
        return Traffic.model_validate(given)
