"""The traps of HN1, each handled and named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from adapter.errors import UnusableInput
from training.cohorts.hn1 import Hn1Patient, _image, read_hn1


@pytest.fixture(scope="module")
def patients(data_folder: Path) -> tuple[Hn1Patient, ...]:
    """All of them."""
    return read_hn1(data_folder / "hn1")


def test_one_patient_per_person_not_per_structure(patients: tuple[Hn1Patient, ...]) -> None:
    """1,280 rows of structures make 137 patients, 74 of whom died."""
    assert (len(patients), sum(patient.died for patient in patients)) == (137, 74)
    assert len({patient.patient_id for patient in patients}) == 137


def test_hemoglobin_is_in_grams(patients: tuple[Hn1Patient, ...]) -> None:
    """7.1 mmol/L of HN1004 is 11.4 g/dL; 54 are not recorded."""
    assert patients[0].hemoglobin_g_per_dl == pytest.approx(7.1 * 1.611)
    assert sum(patient.hemoglobin_g_per_dl is None for patient in patients) == 54
    assert all(8.0 < patient.hemoglobin_g_per_dl < 20.0 for patient in patients if patient.hemoglobin_g_per_dl)


def test_concomitant_and_concurrent_are_one_treatment(patients: tuple[Hn1Patient, ...]) -> None:
    """26 of one word and 11 of the other are 37 of one treatment."""
    assert Counter(patient.concurrent_chemotherapy for patient in patients) == {True: 37, False: 100}


def test_volumes_are_millilitres_of_tumour_only(patients: tuple[Hn1Patient, ...]) -> None:
    """HN1004: 117 ml of GTV-1 and no parotid in the total; the total is never below the primary."""
    assert patients[0].image.primary_ml == pytest.approx(116.964, abs=1e-3)
    assert all(patient.image.total_ml >= patient.image.primary_ml for patient in patients)


def test_a_patient_without_primary_tumour_is_refused() -> None:
    """No GTV-1 is an error with the id, not a volume of zero."""
    with pytest.raises(UnusableInput, match="HN0: no structure GTV-1"):
        _image("HN0", [{"Structure": "Parotid-Left"}])


def test_surgery_before_and_metastasis_are_on_record(patients: tuple[Hn1Patient, ...]) -> None:
    """Six were operated on and one had distant metastasis: marked, so that a study can leave them out."""
    assert sum(patient.surgery for patient in patients) == 6
    assert sum(patient.distant_metastasis for patient in patients) == 1
