"""When to ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.fhir.limits import Limits
from adapter.fhir.retry import asked_wait_seconds, http_date, wait_seconds

_LIMITS = Limits()


@pytest.mark.fault("F-04")
@given(st.text(max_size=30), st.none() | st.text(max_size=30))
def test_a_wish_is_never_more_than_the_cap_nor_less_than_nothing(written: str, date: str | None) -> None:
    """Whatever stands in Retry-After."""
    headers = {"retry-after": written} | ({} if date is None else {"date": date})
    wished = asked_wait_seconds(headers, _LIMITS)
    assert wished is None or 0.0 <= wished <= _LIMITS.retry_after_cap_seconds


@given(st.integers(1, 50), st.none() | st.floats(0, 30), st.floats(0, 1))
def test_a_wait_keeps_to_its_bounds(attempt: int, asked: float | None, drawn: float) -> None:
    """Never shorter than asked for, never longer than that and the back-off's ceiling."""
    wait = wait_seconds(attempt, asked, jitter=lambda: drawn, limits=_LIMITS)
    assert (asked or 0.0) <= wait <= (asked or 0.0) + _LIMITS.backoff_cap_seconds


@pytest.mark.fault("F-04")
def test_a_zero_wish_does_not_make_us_hot_loop() -> None:
    """`Retry-After: 0` is believed once; from the second failure on we back off."""
    waits = [wait_seconds(attempt, 0.0, jitter=lambda: 1.0, limits=_LIMITS) for attempt in (1, 2, 3)]
    assert waits == [0.0, 0.4, 0.8]


@pytest.mark.fault("F-04")
@pytest.mark.parametrize("text", [None, "", "soon", "Mon, 32 Jan 2026 00:00:00 GMT", "Mon, 23 Nov 2026 22:00:00"])
def test_a_date_that_is_none_is_none(text: str | None) -> None:
    """A time without a zone, or no time at all, is not compared with anything."""
    assert http_date(text) is None
