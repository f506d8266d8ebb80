"""Classes of the values of one field."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from libnetvirt.verification.atoms import Partition

BITS = 6
ALL = (1 << BITS) - 1
QUESTIONS = st.sets(
    st.tuples(st.integers(0, ALL), st.one_of(st.just(ALL), st.integers(1, ALL))).map(
        lambda q: (q[0] & q[1], q[1])
    ),
    max_size=7,
)


@given(QUESTIONS)
def test_each_value_is_in_the_atom_that_gives_the_same_answers(questions: set[tuple[int, int]]) -> None:
    partition = Partition(BITS, questions)
    for value in range(ALL + 1):
        like = partition.values[partition.of(value)]
        for wanted, mask in questions:
            answer = value & mask == wanted
            assert (like & mask == wanted) is answer
            assert bool(partition.matching(wanted, mask) >> partition.of(value) & 1) is answer


@given(QUESTIONS)
def test_values_that_a_field_cannot_have_stand_for_no_atom(questions: set[tuple[int, int]]) -> None:
    partition = Partition(BITS, questions, lambda value: value >= 16)
    assert all(value >= 16 for value in partition.values)
    assert {partition.of(value) for value in range(16, ALL + 1)} == set(range(len(partition.values)))
