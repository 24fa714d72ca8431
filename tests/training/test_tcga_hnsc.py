"""The traps of the TCGA-HNSC tables, each handled and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter.terminology import load_terminology
from training.cohorts.cohort import CohortPatient
from training.cohorts.tcga_hnsc import _follow_up, read_tcga


@pytest.fixture(scope="module")
def patients(data_folder: Path) -> tuple[CohortPatient, ...]:
    """All of them."""
    return read_tcga(data_folder / "tcga_hnsc", load_terminology())


def test_two_extra_header_lines_are_no_patients(patients: tuple[CohortPatient, ...]) -> None:
    """319 patients, none of them called by a CDE id."""
    assert len(patients) == 319
    assert not any("CDE" in patient.record.person.patient_id for patient in patients)


def test_not_available_is_not_a_value(patients: tuple[CohortPatient, ...]) -> None:
    """`[Not Available]`, `[Unknown]` and blanks leave no measurement."""
    values = {entry.value for patient in patients for entry in patient.record.measurements}
    assert not any(isinstance(value, str) and "[" in value for value in values)


def test_the_latest_of_all_forms_decides() -> None:
    """Death on any form is a death, and the last contact is the maximum over patient and follow-up forms."""
    forms = [
        {"last_contact_days_to": "100", "death_days_to": "[Not Available]", "new_tumor_event_dx_days_to": "90"},
        {"last_contact_days_to": "[Not Available]", "death_days_to": "462", "new_tumor_event_dx_days_to": "60"},
    ]
    follow_up = _follow_up(forms)  # type: ignore[arg-type]  # plain dictionaries are mappings
    assert (follow_up.last_days, follow_up.died, follow_up.illness_days) == (462.0, True, 60.0)


def test_metastasis_and_neoadjuvant_treatment_train_nothing(patients: tuple[CohortPatient, ...]) -> None:
    """Nine patients are loaded and excluded by name."""
    reasons = sorted(patient.excluded for patient in patients if patient.excluded)
    assert (reasons.count("distant metastasis"), reasons.count("neoadjuvant treatment")) == (5, 4)
