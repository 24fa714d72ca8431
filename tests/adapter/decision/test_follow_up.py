"""Follow-up intervals: inside the guideline, no more visits than its table, less delay where recurrence is likely."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter.decision.follow_up import Phase, intervals, mean_delay, schedule, visit_months
from adapter.decision.policy import load_policy
from adapter.domain.plan import FollowUpVisit, RiskGroup
from inference.contract import ModelOutput
from tests.fakes.postoperative import forecast, timeline

_TABLE = load_policy()
_POLICY = replace(_TABLE, adapts_follow_up=True)
_CLINIC = ("FU-CLINIC-Y1", "FU-CLINIC-Y2", "FU-CLINIC-Y3-5")
_FIRST_TWO_YEARS = _CLINIC[:2]


def _recurrence(*fractions: float) -> ModelOutput:
    """A curve that reaches these fractions after each of the twenty quarters, five of them given by year."""
    curve = np.interp(np.arange(1, 21), [0, 4, 8, 12, 16, 20], [0.0, *fractions]).astype(np.float32)
    nobody = np.zeros(20, dtype=np.float32)
    return ModelOutput(recurrence=curve, death_without_recurrence=nobody, death=nobody)


def _clinic(visits: tuple[FollowUpVisit, ...]) -> list[FollowUpVisit]:
    return [visit for visit in visits if visit.activity in _CLINIC]


def test_visits_move_to_the_year_in_which_recurrence_is_likely() -> None:
    """Nearly all recurrences in the second year: visits every 3 months there, paid for by those of the later years."""
    patient = timeline()
    second = _clinic(schedule(patient, _POLICY, forecast(patient, output=_recurrence(0.01, 0.5, 0.5, 0.5, 0.5))))
    assert {visit.activity: visit.every_months for visit in second}["FU-CLINIC-Y2"] == 3
    assert all(visit.adapted for visit in second if visit.activity == "FU-CLINIC-Y2")
    assert len(visit_months(second)) <= len(visit_months(_clinic(schedule(patient, _TABLE))))


def test_without_risk_the_table_stands() -> None:
    """Nothing to gain: the table's own intervals, not labelled as adapted."""
    patient = timeline()
    flat = schedule(patient, _POLICY, forecast(patient, output=_recurrence(0, 0, 0, 0, 0)))
    assert flat == schedule(patient, _TABLE)


def test_at_high_risk_nobody_is_seen_less_often_than_by_the_table_in_the_first_two_years() -> None:
    """Visits of year 1 may pay for later ones only where the rules know that the risk group is lower."""
    patient = timeline()
    risk = forecast(patient, output=_recurrence(0.28, 0.44, 0.54, 0.6, 0.66))
    every = {
        group: tuple(visit.every_months for visit in _clinic(schedule(patient, _POLICY, risk, group)))
        for group in RiskGroup
    }
    assert every[RiskGroup.LOW] == every[RiskGroup.INTERMEDIATE] == (3, 3, 5)
    assert every[RiskGroup.HIGH] == every[RiskGroup.UNKNOWN] == (2, 4, 6)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 0.19), min_size=5, max_size=5), st.integers(0, 900), st.sampled_from(RiskGroup))
def test_every_schedule_keeps_the_guideline_and_the_budget(steps: list[float], days: int, group: RiskGroup) -> None:
    """Whatever the curve, landmark and group: bounds kept, no more visits than the table, never denser again."""
    patient = timeline()
    moved = replace(patient, landmark=replace(patient.landmark, time=patient.landmark.time + _days(days)))
    risk = forecast(moved, output=_recurrence(*np.cumsum(steps)))
    adapted, table = schedule(moved, _POLICY, risk, group), schedule(moved, _TABLE)
    for visit in adapted:
        row = _POLICY.visit(visit.activity)
        assert row.least <= visit.every_months <= row.most
        assert 0 < visit.first_month <= visit.last_month
        if group is RiskGroup.HIGH and visit.activity in _FIRST_TWO_YEARS:
            assert visit.every_months <= row.every_months
    rhythm = [visit.every_months for visit in _clinic(adapted)]
    assert rhythm == sorted(rhythm)
    assert len(visit_months(_clinic(adapted))) <= len(visit_months(_clinic(table)))
    assert [visit.activity for visit in adapted] == [visit.activity for visit in table]


def _days(number: int) -> timedelta:
    return timedelta(days=number)


@given(
    st.lists(
        st.builds(
            lambda begun, length, every, mass: Phase(
                begun=begun, last=begun + length, every=every, planned=length // every, least=1, most=8, mass=mass
            ),
            st.integers(0, 60),
            st.integers(8, 36),
            st.integers(1, 8),
            st.floats(0.0, 0.5),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_the_chosen_intervals_never_wait_longer_than_the_table(phases: list[Phase]) -> None:
    """The expected delay of what is chosen is at most the table's, at no more visits."""
    chosen = intervals(phases)
    waits = [
        sum(phase.mass * every / 2 for phase, every in zip(phases, choice, strict=True))
        for choice in (chosen, [phase.every for phase in phases])
    ]
    assert waits[0] <= waits[1]
    visits = sum(phase.visits(every) for phase, every in zip(phases, chosen, strict=True))
    assert visits <= sum(phase.planned for phase in phases)


def test_a_recurrence_waits_for_the_next_visit() -> None:
    """By hand: visits at 2, 4 and 6; recurrences at 1, 4 and 4.5 wait 1, 0 and 1.5; one at 7 is found by none."""
    assert mean_delay((2, 4, 6), (1.0, 4.0, 4.5, 7.0)) == pytest.approx(2.5 / 3)
    with pytest.raises(ValueError, match="no recurrence"):
        mean_delay((2, 4, 6), (7.0,))
