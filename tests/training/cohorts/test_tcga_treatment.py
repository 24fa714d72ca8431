"""The traps of TCGA's treatment tables, each handled and named."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.cohorts.tcga_treatment import _answer, drug_name, gray, read_treatments


def test_doses_in_both_units_are_gray() -> None:
    """6,600 cGy and 66 Gy are one dose; 6,000 `Gy`, and a dose of no known unit, are none."""
    assert gray("6600", "cGy") == pytest.approx(66.0)
    assert gray("66", "Gy") == 66.0
    assert gray("6000", "Gy") is None
    assert gray("6000", "[Not Available]") is None
    assert gray("[Not Available]", "cGy") is None


def test_a_drug_has_one_name() -> None:
    """Case and brand names are one drug."""
    assert {drug_name(text) for text in ("Cisplatin", "CISPLATIN", "cisplatin ")} == {"cisplatin"}
    assert {drug_name(text) for text in ("Erbitux", "cetuximab")} == {"cetuximab"}


def test_any_form_that_says_yes_decides() -> None:
    """Yes on a later form beats an earlier no; `[Not Available]`, `[Unknown]` and blanks say nothing, not no."""
    assert _answer(["NO", "YES"]) is True
    assert _answer(["NO", "[Unknown]"]) is False
    assert _answer(["[Not Available]", ""]) is None


def test_forms_and_tables_are_merged(data_folder: Path) -> None:
    """319 patients; the forms give radiotherapy for 214 where the course table dates only part of them."""
    patients = read_treatments(data_folder / "tcga_hnsc")
    assert len(patients) == 319
    treated = [patient for patient in patients if patient.radiotherapy]
    assert len(treated) == 214
    assert 0 < sum(patient.radiotherapy_start_day is not None for patient in treated) < 214
    assert all(patient.dose_gy is None or 0.0 < patient.dose_gy <= 100.0 for patient in patients)
