"""From a landmark only the past is seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.cohorts.longitudinal import LongitudinalPatient, Visit
from training.studies.landmark_problems import PBC
from training.studies.landmark_tables import (
    Describe,
    age_of_newest,
    at_landmark,
    at_landmarks,
    last_known,
    mean_of_newest,
    recent,
    slope,
)
from training.studies.landmarks import _splits

_PATIENT = LongitudinalPatient(
    patient_id="1",
    baseline={"age_years": 50.0, "female": 1.0, "penicillamine": 0.0},
    visits=(
        Visit(years=0.0, values={"bilirubin_mg_per_dl": 1.0, "albumin_g_per_dl": 4.0, "edema": 0.0}),
        Visit(years=1.0, values={"bilirubin_mg_per_dl": math.e}),
        Visit(years=3.0, values={"bilirubin_mg_per_dl": 99.0, "albumin_g_per_dl": 1.0, "edema": 1.0}),
    ),
    years=5.0,
    died=True,
)


@pytest.mark.parametrize("describe", [PBC.plain, PBC.engineered, PBC.dynamic])
def test_a_value_known_after_the_landmark_changes_nothing(describe: Describe) -> None:
    """Whatever the third visit says, and whether there was one, the row at two years is the same."""
    other = Visit(years=3.0, values={"bilirubin_mg_per_dl": 0.1})
    changed = [replace(_PATIENT, visits=(*_PATIENT.visits[:2], *rest)) for rest in ((), (other,))]
    expected = np.array(describe(_PATIENT, 2.0))
    for patient in changed:
        assert np.array_equal(np.array(describe(patient, 2.0)), expected, equal_nan=True)


def test_the_last_observation_is_carried_per_value() -> None:
    """At two years bilirubin is of the second visit, albumin still of the first, and the newest is a year old."""
    assert last_known(_PATIENT, 2.0) == {"bilirubin_mg_per_dl": math.e, "albumin_g_per_dl": 4.0, "edema": 0.0}
    assert age_of_newest(_PATIENT, 2.0) == 1.0


def test_slope_and_recent_mean_on_paper() -> None:
    """Logarithms 0 and 1 a year apart: slope one, mean a half; a single visit has slope zero."""
    assert slope(_PATIENT, 2.0, "bilirubin_mg_per_dl") == pytest.approx(1.0)
    assert recent(_PATIENT, 2.0, "bilirubin_mg_per_dl") == pytest.approx(0.5)
    assert slope(_PATIENT, 0.5, "bilirubin_mg_per_dl") == 0.0
    assert mean_of_newest(_PATIENT, 2.0, "albumin_g_per_dl", 3) == 4.0
    assert math.isnan(recent(_PATIENT, 2.0, "platelets_10_9_per_l"))


def test_who_died_before_the_landmark_is_not_in_its_table() -> None:
    """Five years of follow-up: at risk at four with one year left, absent at five."""
    assert at_landmark([_PATIENT], 4.0, PBC.plain).outcomes.years.tolist() == [1.0]
    rows = at_landmarks([_PATIENT], lambda _: (0.0, 4.0, 5.0, 6.0), PBC.plain)
    assert rows.patients.tolist() == [0, 0]


def test_a_patient_is_trained_on_or_tested_never_both() -> None:
    """Rows of one person stay on one side, whatever the number of their visits."""
    died = np.arange(50) < 20
    for train, test in _splits(died, 1, 3):
        assert not set(train) & set(test)
        assert len(train) + len(test) == 50
        assert died[test].sum() == 6
