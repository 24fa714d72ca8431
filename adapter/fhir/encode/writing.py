"""How numbers, times and references are written in FHIR R4."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal

from adapter.domain.ids import ResourceVersion
from adapter.errors import InvalidForecast
from adapter.fhir.entries import Json

_PERCENT_STEP = Decimal("0.1")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # whatever the locale


def to_percent(probability: float) -> Decimal:
    """Express a cumulative incidence the way FHIR R4 does, in percent.

    probability: fraction, 0 to 1. Returns 0.0 to 100.0, one decimal place, halves to even.
    Raises InvalidForecast. Source: FHIR R4, RiskAssessment.prediction.probability[x] (ras-2, max = 100).
    """
    if not 0.0 <= probability <= 1.0:  # also false for NaN
        raise InvalidForecast("a cumulative incidence lies outside 0 to 1")
    return (Decimal(probability) * 100).quantize(_PERCENT_STEP, rounding=ROUND_HALF_EVEN)


def to_points(change: float) -> int:
    """A difference of probabilities in whole percentage points, halves to even."""
    return int((Decimal(change) * 100).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def instant(moment: datetime) -> str:
    """Write a time in UTC to the millisecond, the precision every server keeps."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_in_words(day: date) -> str:
    """Write a day the one way in which sentences and pages do: `27 Jan 2026`."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def months_later(moment: datetime, months: int) -> datetime:
    """Count calendar months in UTC; a day the month does not have becomes its last one."""
    start = moment.astimezone(UTC)
    years, month = divmod(start.month - 1 + months, 12)
    for day in range(start.day, start.day - 4, -1):
        try:
            return start.replace(year=start.year + years, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError("unreachable: every month has 28 days")


def versioned(source: ResourceVersion) -> Json:
    """Refer to one version of a resource."""
    return {"reference": str(source)}


def without_empty(resource: Json) -> Json:
    """Leave out what is not there: FHIR knows neither null nor empty lists."""
    return {key: value for key, value in resource.items() if value is not None and value != []}
