"""A cohort patient stands where the service would put them, and counts from there; made-up patients, no data needed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from adapter.domain.risk import AtRisk
from adapter.features.at_risk import LandmarkPolicy
from adapter.terminology import load_terminology
from training.cohorts.cohort import CohortPatient, FollowUp, RecordBuilder
from training.cohorts.landmarks import decision_standing, landmark_rows
from training.postoperative_contract import postoperative_contract


def _patient(follow_up: FollowUp, *, margin: str | None = "R0", excluded: str | None = None) -> CohortPatient:
    builder = RecordBuilder("made-up", "1", datetime(2015, 6, 15, tzinfo=UTC), load_terminology())
    builder.diagnose("hnscc", "larynx", -21)
    builder.operate()
    for feature, value in (("pT", "pT2"), ("pN", "pN1"), ("margin_class", margin)):
        builder.measure(feature, value, 0)
    builder.measure("hgb", 13.5, -1)
    return CohortPatient(record=builder.record(age_years=60.0, sex="female"), follow_up=follow_up, excluded=excluded)


def _until(days: float, illness: float | None = None) -> FollowUp:
    return FollowUp(illness_days=illness, last_days=days, died=False)


def test_days_count_from_the_landmark() -> None:
    """Not from surgery: both times shrink by the years that the model is told, and by nothing else."""
    (row,) = landmark_rows([_patient(_until(700.0, 400.0))], postoperative_contract())
    elapsed = 700.0 - row.last_days
    assert elapsed > 0.0
    assert row.illness_days == pytest.approx(400.0 - elapsed)
    assert row.model_input.years_since_surgery * 365.25 == pytest.approx(elapsed, abs=1.0)


def test_who_relapsed_before_the_landmark_is_not_at_risk_there() -> None:
    """Breach: immortal time, a forecast fitted on what had already happened."""
    assert landmark_rows([_patient(_until(700.0, 1.0))], postoperative_contract()) == ()
    assert landmark_rows([_patient(_until(1.0))], postoperative_contract()) == ()


def test_who_is_excluded_makes_no_row() -> None:
    """The record is there for parity, and trains nothing."""
    assert landmark_rows([_patient(_until(700.0), excluded="distant metastasis")], postoperative_contract()) == ()


def test_a_table_without_a_margin_stands_at_its_last_entry() -> None:
    """The service would wait for it; a closed table has nothing more to come, and the margin stays masked."""
    patient = _patient(_until(700.0), margin=None)
    stands = decision_standing(patient.record, LandmarkPolicy())
    assert isinstance(stands, AtRisk)
    assert stands.landmark.time == max(entry.known for entry in patient.record.dated())
    (row,) = landmark_rows([patient], postoperative_contract())
    place = next(index for index, entry in enumerate(postoperative_contract().static) if entry.name == "margin")
    assert row.model_input.static_mask[place] == 0.0
