"""Which name is suggested for one that does not exist, and that this is quick on large networks."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from libnetvirt.suggestions import did_you_mean

UUIDS = [str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(1, 10_001)]
NAMES = [f"customer-{number:05}" for number in range(10_000)]


@pytest.mark.parametrize("known", [["blue", "green"], ["blue", *NAMES], ["blue", *NAMES, *UUIDS]])
def test_the_nearest_name_is_suggested_among_few_and_many(known: list[str]) -> None:
    assert did_you_mean("bleu", known) == " Did you mean 'blue'?"
    assert did_you_mean("xyz", known) == ""


def test_names_with_a_mistake_at_the_begin_or_at_the_end_are_found_among_very_many() -> None:
    assert did_you_mean("Paris-West-12", [*NAMES, "paris-west-1"]) == " Did you mean 'paris-west-1'?"
    assert did_you_mean("qaris-west-1", [*NAMES, "paris-west-1"]) == " Did you mean 'paris-west-1'?"
    assert did_you_mean("customer-0777", [*NAMES, "customer-o777"]).count("'") >= 2
    assert did_you_mean(UUIDS[77][:-1], [*UUIDS, *NAMES]) == f" Did you mean {UUIDS[77]!r}?"


def test_asking_whether_a_uuid_or_a_name_is_free_is_quick_among_ten_thousand() -> None:
    for word in ("01234567-89ab-cdef-0123-456789abcdef", "customer-99999x"):
        taken = []  # of the processor: the machine may have other work
        for _ in range(3):
            began = time.process_time()
            did_you_mean(word, [*UUIDS, *NAMES])
            taken.append(time.process_time() - began)
        assert min(taken) < 0.1, word
