"""The traps of the HANCOCK tables, each handled and named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from adapter.terminology import load_terminology
from training.cohorts.cohort import CohortPatient
from training.cohorts.hancock import read_hancock
from training.cohorts.landmarks import landmark_rows
from training.postoperative_contract import postoperative_contract


@pytest.fixture(scope="module")
def patients(data_folder: Path) -> tuple[CohortPatient, ...]:
    """All of them."""
    return read_hancock(data_folder / "hancock", load_terminology())


def _values(patients: tuple[CohortPatient, ...], feature: str) -> Counter[object]:
    return Counter(
        entry.value for patient in patients for entry in patient.record.measurements if entry.feature == feature
    )


def test_label_encodings_mean_what_the_counts_say(patients: tuple[CohortPatient, ...]) -> None:
    """614 men; p16 code 1 is not tested and leaves nothing; smoking code 3 is missing; resection 0 is R0."""
    assert Counter(patient.record.person.sex for patient in patients) == {"male": 614, "female": 149}
    assert _values(patients, "p16") == {"negative": 191, "positive": 141}
    assert _values(patients, "smoking_status") == {"current": 350, "never": 211, "former": 186}
    assert _values(patients, "margin_class") == {"R0": 685, "R1": 51, "R2": 2, "RX": 25}


def test_grading_by_hpv_is_no_grade(patients: tuple[CohortPatient, ...]) -> None:
    """Code 3 stands for p16-positive cases that are not graded: it is left out, and is not G4."""
    assert _values(patients, "grade") == {"G1": 16, "G2": 236, "G3": 370}


def test_perinodal_invasion_without_nodes_is_not_a_finding(patients: tuple[CohortPatient, ...]) -> None:
    """365 are missing, nearly all without nodes: no finding is written, neither negative nor unknown."""
    assert _values(patients, "ene_path") == {"negative": 197, "positive": 201}


def test_primary_metastasis_is_on_record_and_trains_nothing(patients: tuple[CohortPatient, ...]) -> None:
    """49 patients are loaded whole, carry cM1, and are excluded."""
    excluded = [patient for patient in patients if patient.excluded]
    assert len(excluded) == 49
    assert len(landmark_rows(patients, postoperative_contract())) == 703


def test_both_clocks_become_days_after_surgery(patients: tuple[CohortPatient, ...]) -> None:
    """OS counts from diagnosis, RFS from first treatment: 001 : 2258 days by one, 2230 by the other."""
    follow_up = patients[0].follow_up
    assert (follow_up.last_days, follow_up.died, follow_up.illness_days) == (2230.0, False, None)
    assert patients[1].follow_up.illness_days == 341.0


def test_no_time_lies_at_or_before_surgery(patients: tuple[CohortPatient, ...]) -> None:
    """RFS times of zero and below are clamped to the first day, and illness never comes after the end."""
    assert all(patient.follow_up.last_days >= 1.0 for patient in patients)
    assert all((patient.follow_up.illness_days or 1.0) >= 1.0 for patient in patients)
    assert all((patient.follow_up.illness_days or 0.0) <= patient.follow_up.last_days for patient in patients)
