"""C-MOVE statuses: every code there is has one row or the row of the unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter.dicom.move import MOVE_STATUSES, OTHER_STATUS, MoveHandling, handling_of


@given(code=st.integers(0, 0xFFFF))
def test_every_status_is_handled(code: int) -> None:
    """A code has at most one row; a code without one is asked again, never taken for success."""
    rows = [row for row in MOVE_STATUSES if row.first <= code <= row.last]
    assert len(rows) <= 1
    assert handling_of(code) is (rows[0].handling if rows else OTHER_STATUS)


@pytest.mark.fault("F-10")
def test_no_status_at_all_is_not_success() -> None:
    """An association that ended without a final response is asked again."""
    assert handling_of(None) is MoveHandling.ASK_AGAIN


def test_only_pending_goes_on() -> None:
    """FF00 alone says that more responses follow."""
    assert [row.first for row in MOVE_STATUSES if row.handling is MoveHandling.GO_ON] == [0xFF00]
