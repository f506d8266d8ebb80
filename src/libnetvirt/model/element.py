"""The base of the elements of a description: frozen, no unknown fields, one kind of error.

Fields are named as in documents, with ``_`` for ``-``. Since 0.1 unless said otherwise.

The annotation of a field is the type that is *read* (``uuid: str``, ``min_bandwidth: Bandwidth``); what may
be *given* is wider (``uuid=7``, ``min_bandwidth="10 Mbit/s"``), and type checkers know no conversion. So
each element has a ``TypedDict`` beside it with the types that may be given. It is the signature of the
constructor, for type checkers only (pydantic would call a real ``__init__`` for each member of a document),
and of the methods of :mod:`libnetvirt.connection`. A test keeps the field names of both the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from libnetvirt.errors import Fault, InvalidDescription
from libnetvirt.model import wording
from libnetvirt.model.messages import Location, hyphenated, key_text, shown
from libnetvirt.model.scalars import uuid_text

# Whether an element is being validated: only the outermost one turns pydantic's error into ours, which then
# has every fault of the whole document.
_inside: ContextVar[bool] = ContextVar("libnetvirt.model.inside", default=False)

# Field of a list -> the name that documents give to one member.
_SINGULAR = {"endpoints": "endpoint", "constraints": "constraint"}


def text_of(error: Mapping[str, Any], root: type[Element]) -> str:
    """The message for one entry of ``ValidationError.errors()`` of a ``root``."""
    kind, found = error["type"], error["input"]
    if kind == "extra_forbidden":
        cls = root.element_at(error["loc"][:-1])
        if cls.document_name(str(error["loc"][-1])):
            return "is given twice, once with '-' and once with '_'"
        return f"is not known here: allowed are {', '.join(cls.document_names())}"
    if kind == "invalid_key":
        return "is not a name: the names of fields are texts"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        cls = root.element_at(error["loc"])
        return f"{shown(found)} stands where fields are expected: {', '.join(cls.document_names())}"
    return wording.text_of(error)


def faults_of(error: ValidationError, root: type[Element]) -> list[tuple[Location, str]]:
    """(location, text) of every fault in a pydantic error."""
    return [(e["loc"], text_of(e, root)) for e in error.errors(include_url=False)]


def _member(value: Any, step: int | str) -> Any:
    """The member of raw input that one step of a location leads to; one value may stand for a list of one."""
    if isinstance(step, int):
        if isinstance(value, (list, tuple)):
            return value[step] if step < len(value) else None
        return value
    if isinstance(value, Mapping):
        return value.get(step)
    return getattr(value, step, None)


def path_text(root: type[Element], location: Sequence[int | str], raw: Any = None) -> str:
    """``("endpoints", 0, "vlan")`` -> ``network/endpoint[11]/vlan``.

    Members of lists are named by their uuid if ``raw``, the input, has one, else by their position, counted
    from 1. The only member of a list needs no number.
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
    """Base of the elements of a description.

    Constructing one with bad values raises :class:`~libnetvirt.errors.InvalidDescription`, which lists every
    fault with its path.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=hyphenated, populate_by_name=True, loc_by_alias=True
    )

    ELEMENT: ClassVar[str] = ""

    @classmethod
    def element_name(cls) -> str:
        """Its name in documents, such as ``endpoint``."""
        return cls.ELEMENT or cls.__name__.lower()

    @classmethod
    def document_names(cls) -> list[str]:
        """The names of its fields in documents, such as ``min-bandwidth``."""
        return [hyphenated(name) for name in cls.model_fields]

    @classmethod
    def document_name(cls, step: str) -> str | None:
        """The name in documents of a field, given by either of its names; None if there is no such field."""
        return next((hyphenated(name) for name in cls.model_fields if step in (name, hyphenated(name))), None)

    @classmethod
    def element_at(cls, location: Sequence[int | str]) -> type[Element]:
        """The class of the innermost element on the way to a location within this one."""
        found: type[Element] = cls
        for step in location:
            field = found.model_fields.get(str(step).replace("-", "_"))
            inner = field and _element_in(field.annotation)
            if isinstance(step, str) and inner:
                found = inner
        return found

    @classmethod
    def examined(cls, value: Any) -> tuple[Self | None, list[tuple[Location, str]]]:
        """(element, []), or (None, location and text of every fault). Raises nothing.

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
        """Validate ``value``. Subclasses override it to check the raw input as well."""
        return handler(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Outside of everything else, also of the validators of subclasses that run after the fields. Within
        # another element pydantic hands out what was made here before (2.14).
        schema = handler(source)
        if schema["type"] == "function-wrap" and schema["function"].get("function") == cls._one_kind_of_error:
            return schema
        return core_schema.no_info_wrap_validator_function(cls._one_kind_of_error, schema)

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
        """A copy with these fields replaced, validated like a new one. Raises InvalidDescription."""
        kept = {k: getattr(self, k) for k in self.model_fields_set}
        for name in fields:
            # ``max-hops`` replaces ``max_hops``; a field that is given by both names is a fault.
            if "-" in name:
                kept.pop(name.replace("-", "_"), None)
        return type(self).model_validate({**kept, **fields})


def _element_in(annotation: Any) -> type[Element] | None:
    """The element class within a field's type, such as Endpoint in tuple[Endpoint, ...]; else None."""
    if isinstance(annotation, type) and issubclass(annotation, Element):
        return annotation
    return next((found for a in get_args(annotation) if (found := _element_in(a))), None)
