"""What is wrong with a value is told in words of ours, whatever pydantic calls it."""

from __future__ import annotations

from typing import get_args

import pytest
from pydantic import BaseModel, Field, ValidationError
from pydantic_core.core_schema import ErrorType

from libnetvirt.model.wording import text_of

#: what pydantic tells beside some kinds
CONTEXT = dict.fromkeys(("ge", "gt", "le", "lt", "multiple_of"), 1.0) | dict.fromkeys(
    ("min_length", "max_length", "actual_length"), 3
)


def test_no_kind_of_error_is_told_in_words_of_pydantic() -> None:
    kinds = get_args(ErrorType)
    assert len(kinds) > 50
    for kind in kinds:
        context = CONTEXT | {"expected": "'a' or 'b'"}
        told = text_of({"type": kind, "input": "x", "ctx": context, "msg": "Value error, ours"})
        assert (told == "ours") == (kind == "value_error"), kind
        assert told == "ours" or told.startswith(("'x' ", "is ")), kind
        assert "{" not in told


class Some(BaseModel):
    whole: int = Field(default=1, ge=1, le=9)
    part: float = Field(default=0.5, gt=0, lt=0.93)
    word: str = Field(default="x", min_length=1, max_length=3)
    many: list[int] = Field(default=[], max_length=2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"whole": 0}, "'0' is too small: 1 is the least"),
        ({"whole": "x"}, "'x' is not a whole number"),
        ({"part": 0.93}, "'0.93' is too large: it has to be less than 0.93"),
        ({"part": 0}, "'0' is too small: it has to be more than 0"),
        ({"word": "long word"}, "'long word' is too long: characters allowed: 3 at most"),
        ({"word": ""}, "'' is too short: characters needed: 1 at least"),
        ({"many": [1, 2, 3]}, "a list has too many entries (3): at most 2 are allowed"),
        ({"many": 3}, "'3' is not a list"),
    ],
)
def test_bounds_are_named(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Some.model_validate(given)
    assert [text_of(error) for error in refused.value.errors()] == [told]
