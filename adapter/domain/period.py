"""When something was true: a closed interval, because charts hold dates such as `2012-02`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from adapter.domain.tristate import TriState


def require_aware(moment: datetime, what: str) -> None:
    """Refuse a time without an offset. Raises ValueError naming `what`."""
    if moment.utcoffset() is None:
        raise ValueError(f"{what} has no UTC offset")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Period:
    """A moment known to lie between two aware times, both included; an instant has both equal.

    Source: FHIR R4 datatypes, `date` and `dateTime` (partial precision is legal).
    """

    earliest: datetime
    latest: datetime

    def __post_init__(self) -> None:
        """Raise ValueError for a time without offset or an interval that ends before it starts."""
        require_aware(self.earliest, "earliest")
        require_aware(self.latest, "latest")
        if self.latest < self.earliest:
            raise ValueError("a period cannot end before it starts")

    @staticmethod
    def instant(moment: datetime) -> Period:
        """The interval that is one moment."""
        return Period(earliest=moment, latest=moment)

    @property
    def midpoint(self) -> datetime:
        """The moment halfway, in UTC, so that the writer's offset changes nothing."""
        return (self.earliest + (self.latest - self.earliest) / 2).astimezone(UTC)

    def before(self, moment: datetime) -> TriState:
        """Whether it lies strictly before the moment; unknown when the moment falls inside."""
        if self.latest < moment:
            return TriState.TRUE
        return TriState.FALSE if self.earliest >= moment else TriState.UNKNOWN


def years_between(start: datetime, end: datetime) -> float:
    """Whole calendar years plus the fraction of the running year, as a clinician counts age.

    Someone born on 29 February grows older on 1 March in common years. Negative when the end lies before the start.
    """
    start = start.astimezone(end.tzinfo)
    whole = end.year - start.year
    if _anniversary(start, whole) > end:
        whole -= 1
    last, following = _anniversary(start, whole), _anniversary(start, whole + 1)
    return whole + (end - last) / (following - last)


def _anniversary(start: datetime, years: int) -> datetime:
    try:
        return start.replace(year=start.year + years)
    except ValueError:
        return start.replace(year=start.year + years, month=3, day=1)
