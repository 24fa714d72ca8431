"""What a FHIR date says, and nothing more (clinical.md 5.10, standards.md F-25)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.domain.period import Period
from adapter.fhir.elements import BadDate, Coding, Concept, DatePeriod, period_of, span_of

_UTC = ZoneInfo("UTC")
_BERLIN = ZoneInfo("Europe/Berlin")
_KATHMANDU = ZoneInfo("Asia/Kathmandu")
_MOMENT = timedelta(microseconds=1)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2012", datetime(2012, 1, 1), datetime(2013, 1, 1)),
        ("2012-02", datetime(2012, 2, 1), datetime(2012, 3, 1)),
        ("2012-12", datetime(2012, 12, 1), datetime(2013, 1, 1)),
        ("2012-02-29", datetime(2012, 2, 29), datetime(2012, 3, 1)),
    ],
)
def test_a_partial_date_is_an_interval(text: str, start: datetime, end: datetime) -> None:
    """A year or month is never given a day: it means every moment of it."""
    period = period_of(text, _UTC)
    assert period == Period(earliest=start.replace(tzinfo=UTC), latest=end.replace(tzinfo=UTC) - _MOMENT)


@pytest.mark.fault("F-25")
def test_a_date_is_the_day_of_the_site() -> None:
    """A date carries no zone: it is read in the site's, which may begin the evening before in UTC."""
    period = period_of("2024-06-01", _KATHMANDU)
    assert period.earliest == datetime(2024, 5, 31, 18, 15, tzinfo=UTC)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-06-01", 24)])
def test_a_day_across_a_clock_change_keeps_its_length(day: str, hours: int) -> None:
    """The day the clocks go forward has 23 hours, the day they go back 25."""
    period = period_of(day, _BERLIN)
    assert period.latest - period.earliest + _MOMENT == timedelta(hours=hours)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize("text", ["2010-05-28T10:00:00", "2024-01-01T12:00", "20240101"])
def test_a_time_without_an_offset_is_refused(text: str) -> None:
    """C-CDA converters write them; guessing the zone moves a datum across a landmark."""
    with pytest.raises(BadDate, match="without an offset"):
        period_of(text, _BERLIN)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize("text", ["2012-2-00", "2012-13", "2012-02-30", "", "today", "2012-02-03T25:00:00Z", "0000"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """TCGA holds `2012-2-00`: it is refused, and no day is made up."""
    with pytest.raises(BadDate):
        period_of(text, _UTC)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize("text", ["1899", "1899-12-31", "1899-12-31T23:59:59Z", "2300", "2201-01-01", "9999-12-31"])
@pytest.mark.parametrize("zone", [_UTC, _KATHMANDU, ZoneInfo("America/Los_Angeles")])
def test_a_filler_year_is_refused(text: str, zone: ZoneInfo) -> None:
    """1899 and 2300 are spreadsheet zero and `never`, not times of a patient."""
    with pytest.raises(BadDate, match="1900 to 2200"):
        period_of(text, zone)


@pytest.mark.fault("F-25")
@pytest.mark.parametrize("zone", [_UTC, _KATHMANDU, ZoneInfo("America/Los_Angeles")])
@pytest.mark.parametrize("text", ["1900-01-01", "2200-12-31", "1900", "2200"])
def test_the_first_and_last_year_are_whole_in_every_zone(text: str, zone: ZoneInfo) -> None:
    """The bound is the year as written: where the sun rises earlier, 1 January 1900 still belongs to 1900."""
    assert period_of(text, zone).earliest.astimezone(zone).year in {1900, 2200}


@pytest.mark.fault("F-25")
@pytest.mark.parametrize("text", ["2016-12-31T23:59:60Z", "2017-01-01T00:59:60.5+01:00"])
def test_a_leap_second_is_the_last_moment_of_its_minute(text: str) -> None:
    """FHIR allows second 60; it stays before the next day."""
    assert period_of(text, _UTC) == Period.instant(datetime(2016, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))


@pytest.mark.fault("F-25")
@given(
    st.datetimes(min_value=datetime(1901, 1, 1), max_value=datetime(2199, 1, 1)),
    st.integers(min_value=-14 * 60, max_value=14 * 60),
)
def test_an_instant_is_the_same_moment_in_every_zone(moment: datetime, minutes: int) -> None:
    """The site's zone never moves a time that carries its own offset."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert period_of(aware.isoformat(), _BERLIN) == Period.instant(aware) == period_of(aware.isoformat(), _KATHMANDU)


@pytest.mark.fault("F-25")
@given(st.dates(min_value=datetime(1901, 1, 1).date(), max_value=datetime(2199, 1, 1).date()))
def test_days_tile_time(day: object) -> None:
    """In a zone that changes its clocks, no moment lies in two days and none between them."""
    today = period_of(str(day), _BERLIN)
    tomorrow = period_of(str(day + timedelta(days=1)), _BERLIN)  # type: ignore[operator]  # dates, as drawn
    assert tomorrow.earliest - today.latest == _MOMENT


@pytest.mark.fault("F-25")
def test_a_period_runs_from_its_first_to_its_last_moment() -> None:
    """Both ends may be partial: the whole of both counts."""
    span = span_of(DatePeriod(start="2024-01", end="2024-02-10"), _UTC)
    assert span == Period(earliest=datetime(2024, 1, 1, tzinfo=UTC), latest=datetime(2024, 2, 11, tzinfo=UTC) - _MOMENT)


@pytest.mark.fault("F-25")
def test_a_period_without_an_end_says_only_its_start() -> None:
    """An open course is not stretched into the future; one without a start says nothing."""
    assert span_of(DatePeriod(start="2024-01-02"), _UTC) == period_of("2024-01-02", _UTC)
    assert span_of(DatePeriod(end="2024-01-02"), _UTC) is None


@pytest.mark.fault("F-25")
def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    """Swapped dates are a typing error, not an interval."""
    with pytest.raises(BadDate, match="before it starts"):
        span_of(DatePeriod(start="2024-02-01", end="2024-01-01"), _UTC)


@pytest.mark.fault("F-25")
def test_the_labels_of_a_concept_are_every_display_and_the_text() -> None:
    """What is compared with the code is all the source shows a reader, case folded."""
    concept = Concept(coding=(Coding(display="Creatinine"), Coding(code="x")), text="eGFR")
    assert concept.labels() == ("creatinine", "egfr")
