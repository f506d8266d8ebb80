"""The base of the tables of the configuration, and types of values that several of them have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from libnetvirt.model.messages import hyphenated

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def _absolute(text: str) -> str:
    if not Path(text).is_absolute() or "\0" in text:
        raise ValueError(f"{text!r} is not an absolute path: begin it with /")
    return text


def _connection_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text[:40]!r} is not a name for a connection: use up to 63 of a-z, 0-9, - and _, "
            "beginning with a letter or digit"
        )
    return text


Name = Annotated[str, AfterValidator(_connection_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class Keys(BaseModel):
    """Base of the tables of the configuration. Types are strict: ``"true"`` is not ``true``."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", alias_generator=hyphenated, loc_by_alias=True
    )

    #: how the table is written in the file, and what it is
    HEADING: ClassVar[str] = ""
