"""The traps of HNSCC (MD Anderson), each handled and named."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from training.cohorts.hnscc_mdacc import HnsccPatient, _day, _stage, read_hnscc


@pytest.fixture(scope="module")
def patients(data_folder: Path) -> tuple[HnsccPatient, ...]:
    """All of them."""
    return read_hnscc(data_folder / "hnscc_mdacc")


def test_copied_rows_are_detected(patients: tuple[HnsccPatient, ...]) -> None:
    """42 patients carry another's muscle before and after, 0002 and 0003 among them."""
    copied = {patient.patient_id.removeprefix("HNSCC-01-") for patient in patients if patient.copied_image}
    assert len(copied) == 42
    assert {"0002", "0003", "0005", "0008", "0007", "0011"} <= copied


def test_dates_are_day_first() -> None:
    """`2/10/01` is 2 October, `31/10/98` the last of October; `n/a` and blanks are no date."""
    assert [_day(text) for text in ("2/10/01", "31/10/98", "n/a", "")] == [
        date(2001, 10, 2), date(1998, 10, 31), None, None,
    ]  # fmt: skip


def test_sub_letters_of_stages_are_no_number_errors() -> None:
    """`4a`, `2b` and `In situ` are 4, 2 and 0."""
    assert [_stage(text) for text in ("4a", "2b", "3a", "In situ", "0")] == [4, 2, 3, 0, 0]


def test_vital_status_that_contradicts_the_dates_is_named(patients: tuple[HnsccPatient, ...]) -> None:
    """77 deaths; twelve living patients have a date of death, one dead patient has none."""
    assert sum(patient.died for patient in patients) == 77
    assert Counter(patient.disagreement for patient in patients) == {
        None: 202, "alive with a date of death": 12, "dead without a date of death": 1,
    }  # fmt: skip


def test_a_second_image_counts_from_the_later_of_two_claims(patients: tuple[HnsccPatient, ...]) -> None:
    """Date and stated delay disagree in most rows: no image is known before both say so, none before treatment."""
    days = [patient.after.day for patient in patients]
    assert sum(day is None for day in days) == 2
    assert all(day is None or day > 0.0 for day in days)
    assert sum(day is not None and day <= 183.0 for day in days) == 126


def test_an_image_before_treatment_that_is_dated_after_it_shows_its_day(patients: tuple[HnsccPatient, ...]) -> None:
    """0064's first image lies half a year after the start, two have no date: they are not images from before."""
    late = [patient.patient_id for patient in patients if patient.before.day is None or patient.before.day > 0.0]
    assert late == ["HNSCC-01-0005", "HNSCC-01-0064", "HNSCC-01-0196"]


def test_a_complete_response_is_no_recurrence_at_the_last_contact(patients: tuple[HnsccPatient, ...]) -> None:
    """The column of recurrence dates holds the last contact for 144 complete responders."""
    assert sum(patient.illness_days is None for patient in patients) == 144


def test_other_diseases_are_marked(patients: tuple[HnsccPatient, ...]) -> None:
    """Six nasopharynx, six unknown primary, three sinus."""
    assert sum(patient.unusual_site for patient in patients) == 15
