"""One measured line of docs/benchmarks.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result. at_most, at_least: the bar, None where there is none; command: what repeats it alone."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    command: str

    @property
    def bar(self) -> str:
        """The bar in words, empty without one."""
        limits = (("at most", self.at_most), ("at least", self.at_least))
        return ", ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)

    @property
    def met(self) -> bool:
        """Whether the value keeps to its bar; a row without one always does."""
        above = self.at_most is not None and self.value > self.at_most
        below = self.at_least is not None and self.value < self.at_least
        return not (above or below)


def report(rows: Iterable[Row], *, as_json: bool) -> int:
    """Print each row, as JSON or for people; returns the exit code: 1 where a bar is missed."""
    missed = 0
    for row in rows:
        missed += not row.met
        if as_json:
            print(json.dumps({"name": row.name, "value": row.value, "unit": row.unit, "bar": row.bar, "met": row.met}))
        else:
            print(f"{'ok ' if row.met else 'MISSED'} {row.value:10.3f} {row.unit:9} {row.name}  {row.bar}", flush=True)
    return 1 if missed else 0
