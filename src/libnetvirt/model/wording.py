"""What is wrong with a value, in words of ours instead of pydantic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from libnetvirt.model.messages import shown

#: kind of pydantic's error -> what follows the value; the fields are those of the error's context
_SENTENCES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "is not a whole number"),
    "int_parsing_size": "is too large",
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "is not a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "is neither true nor false"),
    **dict.fromkeys(("string_type", "string_sub_type", "string_unicode"), "is not a text"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "iterable_type"), "is not a list"),
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type"),
        "is not a group of fields",
    ),
    "greater_than_equal": "is too small: {ge} is the least",
    "greater_than": "is too small: it has to be more than {gt}",
    "less_than_equal": "is too large: {le} is the most",
    "less_than": "is too large: it has to be less than {lt}",
    "multiple_of": "is not a multiple of {multiple_of}",
    "string_too_short": "is too short: characters needed: {min_length} at least",
    "string_too_long": "is too long: characters allowed: {max_length} at most",
    "too_short": "has too few entries ({actual_length}): at least {min_length} are needed",
    "too_long": "has too many entries ({actual_length}): at most {max_length} are allowed",
    **dict.fromkeys(("enum", "literal_error"), "is not known: allowed are {allowed}"),
    "json_invalid": "is not JSON",
    "json_type": "is not JSON",
    "recursion_loop": "contains itself",
    "none_required": "has to be left out",
}


def text_of(error: Mapping[str, Any]) -> str:
    """The message for one entry of ``ValidationError.errors()``, of any model: what was found, and what is
    allowed there. The name of the field is not in it."""
    kind, found, context = error["type"], error["input"], error.get("ctx", {})
    if kind in ("value_error", "fault"):
        return str(error["msg"]).removeprefix("Value error, ")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not known here"
    sentence = _SENTENCES.get(kind, "is not valid here")
    bounds = {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    values = {**bounds, "allowed": allowed_in(context)}
    return f"{shown(found)} {sentence.format_map(values)}"


def allowed_in(context: Mapping[str, Any], quote: str = "") -> str:
    """The values that an error of kind ``enum`` or ``literal_error`` names, each in ``quote``s."""
    return str(context.get("expected", "")).replace("'", quote).replace(" or ", ", ")
