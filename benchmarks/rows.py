"""One measured line of docs/benchmarks.md."""

from __future__ import annotations

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
