"""Kleene's logic: what is not recorded is never read as no."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.tristate import TriState, all_of, any_of

_ANSWERS = st.lists(st.sampled_from(TriState), max_size=6)


def test_a_tristate_refuses_to_be_a_boolean() -> None:
    """`if answer:` would silently read unknown as true; it raises instead."""
    with pytest.raises(TypeError, match="not a bool"):
        bool(TriState.UNKNOWN)


@given(_ANSWERS)
def test_de_morgan_holds(answers: list[TriState]) -> None:
    """Not all is any not, with unknown among the answers too."""
    assert all_of(answers).negated() is any_of(answer.negated() for answer in answers)


@given(_ANSWERS, _ANSWERS)
def test_learning_more_never_reverses_a_decided_answer(answers: list[TriState], learned: list[TriState]) -> None:
    """Once a conjunction is decided with unknowns in it, filling the unknowns in cannot change it."""
    decided = all_of(answers)
    filling = iter(learned)
    filled = [next(filling, answer) if answer is TriState.UNKNOWN else answer for answer in answers]
    if decided is not TriState.UNKNOWN:
        assert all_of(filled) is decided
