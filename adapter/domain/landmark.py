"""The moment an assessment stands at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from adapter.domain.period import require_aware


@dataclass(frozen=True, slots=True, kw_only=True)
class Landmark:
    """A prediction time: only what was known at `time` may be used, and risk is counted from it.

    time: aware. horizons: whole months after `time`, strictly rising.
    """

    time: datetime
    horizons: tuple[int, ...] = (12, 24, 36, 60)

    def __post_init__(self) -> None:
        """Raise ValueError for a time without offset, or horizons that do not rise from above zero."""
        require_aware(self.time, "landmark time")
        if not self.horizons or any(
            later <= earlier for earlier, later in zip((0, *self.horizons), self.horizons, strict=False)
        ):
            raise ValueError("horizons must rise strictly from above zero")
