"""What all parts of a description share: frozen, strict about unknown fields, and one kind of error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.model.messages import Location, hyphenated, key_text, shown
from libnetvirt.model.scalars import uuid_text

__all__ = ["Element", "faults_of", "hyphenated", "path_text", "text_of"]

# Set while an element is being validated, so that only the outermost one turns pydantic's error into ours
# and every fault of the whole document is in it.
_inside: ContextVar[bool] = ContextVar("libnetvirt.model.inside", default=False)

# The lists of a network whose members documents name one by one.
_SINGULAR = {"endpoints": "endpoint", "constraints": "constraint"}


def text_of(error: Mapping[str, Any], root: type[Element]) -> str:
    """One of pydantic's faults, found validating a ``root``, in our words."""
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if kind in ("value_error", "fault"):
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        cls = root.element_at(error["loc"][:-1])
        if cls.document_name(str(error["loc"][-1])):
            return "is given twice, once with '-' and once with '_'"
        return f"is not known here: allowed are {', '.join(cls.document_names())}"
    if kind == "invalid_key":
        return "is not a name: the names of fields are texts"
    if kind == "enum":
        allowed = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ")
        return f"{shown(found)} is not known: allowed are {allowed}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        cls = root.element_at(error["loc"])
        return f"{shown(found)} stands where fields are expected: {', '.join(cls.document_names())}"
    return f"{error['msg']} (found {shown(found)})"


def faults_of(error: ValidationError, root: type[Element]) -> list[tuple[Location, str]]:
    """(location, text) of every fault in a pydantic error."""
    return [(e["loc"], text_of(e, root)) for e in error.errors(include_url=False)]


def _member(value: Any, step: int | str) -> Any:
    """Where a step of a location leads to in raw input; one value may stand for a list of one."""
    if isinstance(step, int):
        if isinstance(value, (list, tuple)):
            return value[step] if step < len(value) else None
        return value
    if isinstance(value, Mapping):
        return value.get(step)
    return getattr(value, step, None)


def path_text(root: type[Element], location: Sequence[int | str], raw: Any = None) -> str:
    """``("endpoints", 0, "vlan")`` -> ``network/endpoint[11]/vlan``.

    Members of lists are named by their uuid where ``raw``, the input, has one, else by their position
    from 1. A member that is its list's only one needs no number.
    """
    path, value = root.element_name(), raw
    for i, step in enumerate(location):
        outer, value = value, _member(value, step)
        if isinstance(step, int):
            try:
                path += f"[{uuid_text(_member(value, 'uuid'))}]"
            except ValueError:
                alone = not isinstance(outer, (list, tuple)) or len(outer) == 1
                if not alone or i == 0 or location[i - 1] in _SINGULAR:
                    path += f"[{step + 1}]"
            continue
        listed = i + 1 < len(location) and isinstance(location[i + 1], int)
        name = _SINGULAR.get(step, step) if listed else step
        known = root.element_at(location[:i]).document_name(name)
        path += f"/{known or key_text(name)}"
    return path


class Element(BaseModel):
    """Base of the description's parts.

    Constructing one with bad values raises :class:`~libnetvirt.errors.InvalidDescription` that lists
    every fault with its place.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=hyphenated, populate_by_name=True, loc_by_alias=True
    )

    ELEMENT: ClassVar[str] = ""

    @classmethod
    def element_name(cls) -> str:
        """What documents call it."""
        return cls.ELEMENT or cls.__name__.lower()

    @classmethod
    def document_names(cls) -> list[str]:
        """The names of its fields in documents."""
        return [hyphenated(name) for name in cls.model_fields]

    @classmethod
    def document_name(cls, step: str) -> str | None:
        """The name in documents of a field given by any of its names; None if there is no such field."""
        return next((hyphenated(name) for name in cls.model_fields if step in (name, hyphenated(name))), None)

    @classmethod
    def element_at(cls, location: Sequence[int | str]) -> type[Element]:
        """The innermost element that a location within this one is in."""
        found: type[Element] = cls
        for step in location:
            field = found.model_fields.get(str(step).replace("-", "_"))
            inner = field and _element_in(field.annotation)
            if isinstance(step, str) and inner:
                found = inner
        return found

    @classmethod
    def examined(cls, value: Any) -> tuple[Self | None, list[tuple[Location, str]]]:
        """The element, or None and the location and text of every fault. Raises nothing.

        For readers of documents, which add file and line to each fault.
        """
        token = _inside.set(True)
        try:
            return cls.model_validate(value), []
        except ValidationError as error:
            return None, faults_of(error, cls)
        finally:
            _inside.reset(token)

    @classmethod
    def _validated(cls, value: Any, handler: Callable[[Any], Self]) -> Self:
        """The validation itself; a place for checks that read the raw input."""
        return handler(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Around everything, also around the validators of subclasses that run after the fields.
        return core_schema.no_info_wrap_validator_function(cls._one_kind_of_error, handler(source))

    @classmethod
    def _one_kind_of_error(cls, value: Any, handler: Callable[[Any], Self]) -> Self:
        if _inside.get():
            return cls._validated(value, handler)
        token = _inside.set(True)
        try:
            return cls._validated(value, handler)
        except ValidationError as error:
            raise InvalidDescription(
                Fault(text, path_text(cls, location, value)) for location, text in faults_of(error, cls)
            ) from None
        finally:
            _inside.reset(token)

    def changed(self, **fields: Any) -> Self:
        """A copy with some fields replaced, validated like a new one."""
        return type(self).model_validate({**{k: getattr(self, k) for k in self.model_fields_set}, **fields})


def _element_in(annotation: Any) -> type[Element] | None:
    """The element class that a field's type holds, such as Endpoint in tuple[Endpoint, ...]."""
    if isinstance(annotation, type) and issubclass(annotation, Element):
        return annotation
    return next((found for a in get_args(annotation) if (found := _element_in(a))), None)
