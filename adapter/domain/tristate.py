"""Three-valued truth (Kleene's strong logic): in a chart, not recorded is never the same as no."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class TriState(Enum):
    """True, false, or unknown. Has no truth value of its own: `if tristate:` would read unknown as something."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"

    def __bool__(self) -> bool:
        """Refuse to be a boolean: compare with `is TriState.TRUE` and decide what unknown means there."""
        raise TypeError("a TriState is not a bool: compare with TriState.TRUE, FALSE or UNKNOWN")

    @staticmethod
    def of(answer: bool | None) -> TriState:
        """Lift a boolean; None is unknown."""
        if answer is None:
            return TriState.UNKNOWN
        return TriState.TRUE if answer else TriState.FALSE

    def negated(self) -> TriState:
        """Not; unknown stays unknown."""
        return _NEGATION[self]


_NEGATION = {
    TriState.TRUE: TriState.FALSE,
    TriState.FALSE: TriState.TRUE,
    TriState.UNKNOWN: TriState.UNKNOWN,
}


def all_of(answers: Iterable[TriState]) -> TriState:
    """And: one false decides, else one unknown leaves it open. All of nothing is true."""
    seen = set(answers)
    if TriState.FALSE in seen:
        return TriState.FALSE
    return TriState.UNKNOWN if TriState.UNKNOWN in seen else TriState.TRUE


def any_of(answers: Iterable[TriState]) -> TriState:
    """Or: one true decides, else one unknown leaves it open. Any of nothing is false."""
    seen = set(answers)
    if TriState.TRUE in seen:
        return TriState.TRUE
    return TriState.UNKNOWN if TriState.UNKNOWN in seen else TriState.FALSE
