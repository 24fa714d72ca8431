"""UCUM units, converted by pint: dimensions are checked, magnitudes never guessed from."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import cast

import pint
from lark.exceptions import LarkError
from ucumvert import PintUcumRegistry

from adapter.errors import MalformedResource

_LONGEST_UNIT = 64  # UCUM expressions are short; a longer one is not a unit
_one_at_a_time = threading.Lock()  # pint builds its registry on first use and fills its caches unguarded


class UnknownUnit(MalformedResource):
    """Not a UCUM unit, or of another dimension than the feature's own."""


@lru_cache(maxsize=1)
def _registry() -> PintUcumRegistry:
    return PintUcumRegistry()  # half a second: built when the first foreign unit is met, not at import


@lru_cache(maxsize=1024)
def factor_between(source: str, target: str) -> float:
    """The number that turns a value in `source` into one in `target`, both UCUM codes.

    The same code gives exactly 1.0. Safe to call from several threads. Raises UnknownUnit for anything that is not a
    unit or has another dimension.
    """
    if source == target:
        return 1.0
    if len(source) > _LONGEST_UNIT:
        raise UnknownUnit("a unit of measure is too long to be one")
    try:
        with _one_at_a_time:
            quantity = _registry().from_ucum(source)
            wanted = _registry().from_ucum(target)
            return cast(float, quantity.to(wanted.units).magnitude / wanted.magnitude)
    except (pint.PintError, LarkError, AttributeError, ValueError, TypeError, ZeroDivisionError) as error:
        # AttributeError: ucumvert answers a bare annotation such as `{score}` with text, which converts to nothing
        raise UnknownUnit(f"a unit does not convert to {target}") from error
