"""The traps of the longitudinal sets, each handled and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from training.cohorts.longitudinal import (
    LongitudinalPatient,
    read_aids,
    read_colorectal,
    read_heart_transplant,
    read_leukaemia,
    read_pbc2,
    read_pbcseq,
    read_prothro,
)

_Reader = Callable[[Path], tuple[LongitudinalPatient, ...]]
_COUNTS = [
    (read_pbc2, 312, 140),
    (read_pbcseq, 312, 140),
    (read_prothro, 488, 292),
    (read_aids, 467, 188),
    (read_leukaemia, 190, 109),
    (read_colorectal, 150, 121),
    (read_heart_transplant, 103, 75),
]


@pytest.mark.parametrize(("read", "count", "deaths"), _COUNTS)
def test_patients_and_deaths_are_as_published(read: _Reader, count: int, deaths: int, data_folder: Path) -> None:
    """Rows are visits or intervals; a person counts once, and a transplant is no death."""
    patients = read(data_folder / "dynamic_survival")
    assert (len(patients), sum(patient.died for patient in patients)) == (count, deaths)


@pytest.mark.parametrize("read", [read for read, _, _ in _COUNTS])
def test_no_visit_lies_after_the_end(read: _Reader, data_folder: Path) -> None:
    """A value after death or last contact (one in colorectal) is dropped; visits stand by time, times above zero."""
    for patient in read(data_folder / "dynamic_survival"):
        times = [visit.years for visit in patient.visits]
        assert times == sorted(times)
        assert times
        assert 0.0 <= times[0] <= times[-1] <= patient.years
        assert patient.years > 0.0


def test_pbc2_and_pbcseq_are_the_same_people(data_folder: Path) -> None:
    """Same values, same times: testing one on the other would test on the training set."""
    left, right = (read(data_folder / "dynamic_survival") for read in (read_pbc2, read_pbcseq))
    for one, other in zip(left, right, strict=True):
        assert one.years == pytest.approx(other.years, abs=1e-3)
        assert [visit.values for visit in one.visits] == [visit.values for visit in other.visits]


def test_months_and_days_become_years(data_folder: Path) -> None:
    """In aids time counts months (16.97), jasa1 days (49), pbcseq days (400)."""
    folder = data_folder / "dynamic_survival"
    assert read_aids(folder)[0].years == pytest.approx(16.97 / 12.0)
    assert read_heart_transplant(folder)[0].years == pytest.approx(49.0 / 365.25)
    assert read_pbcseq(folder)[0].years == pytest.approx(400.0 / 365.25)


def test_a_transplant_counts_from_its_day(data_folder: Path) -> None:
    """Nobody is transplanted at entry who had to survive until then: the immortal time stays untreated."""
    patients = read_heart_transplant(data_folder / "dynamic_survival")
    later = [patient for patient in patients if len(patient.visits) > 1]
    assert len(later) == 67
    assert all(patient.visits[0].values["transplanted"] == 0.0 for patient in later)


def test_a_value_that_was_not_measured_has_no_entry(data_folder: Path) -> None:
    """Cholesterol is blank in 821 visits of pbc2: absent, not zero."""
    visits = [visit for patient in read_pbc2(data_folder / "dynamic_survival") for visit in patient.visits]
    assert sum("cholesterol_mg_per_dl" not in visit.values for visit in visits) == 821
