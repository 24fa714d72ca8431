"""Charts hold dates such as `2012-02`: comparisons with them are three-valued."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapter.domain.period import Period
from adapter.domain.tristate import TriState

_FEBRUARY = Period(earliest=datetime(2012, 2, 1, tzinfo=UTC), latest=datetime(2012, 2, 29, 23, 59, 59, tzinfo=UTC))


@pytest.mark.parametrize(
    ("moment", "answer"),
    [
        (datetime(2012, 1, 31, tzinfo=UTC), TriState.FALSE),
        (datetime(2012, 2, 14, tzinfo=UTC), TriState.UNKNOWN),
        (datetime(2012, 3, 1, tzinfo=UTC), TriState.TRUE),
    ],
)
def test_a_month_is_before_a_day_only_when_all_of_it_is(moment: datetime, answer: TriState) -> None:
    """A moment inside a partial date leaves `before` unknown."""
    assert _FEBRUARY.before(moment) is answer


def test_a_time_without_an_offset_is_refused() -> None:
    """A zone-less time is a safety risk: construction fails."""
    with pytest.raises(ValueError, match="no UTC offset"):
        Period.instant(datetime(2012, 2, 1))


def test_a_period_cannot_end_before_it_starts() -> None:
    """A reversed interval is a fault of the reader, not of the patient."""
    with pytest.raises(ValueError, match="before it starts"):
        Period(earliest=_FEBRUARY.latest, latest=_FEBRUARY.earliest)
