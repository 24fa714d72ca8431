"""The traps of the RADCURE tables, each handled and named."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from adapter.errors import UnusableInput
from training.cohorts.radcure import (
    Part,
    RadcurePatient,
    _category,
    _ecog,
    _outcome,
    _patient,
    read_development,
    read_test_inputs,
)

_ROW = {
    "patient_id": "RADCURE-0000", "Age": "60.0", "Sex": "Male", "ECOG PS": "ECOG 0", "Smoking PY": "10",
    "Smoking Status": "Current", "Ds Site": "Larynx", "Subsite": "Glottis", "T": "T1a", "N": "N0", "M": "M0",
    "Stage": "I", "Path": "Squamous Cell Carcinoma", "HPV": "", "Tx Modality": "ChemoRT ", "Chemo": "Yes",
    "RT Start": "2010-07-27", "Dose": "70.0", "Fx": "35", "RADCURE-challenge": "training",
}  # fmt: skip


@pytest.fixture(scope="module")
def development(data_folder: Path) -> tuple[RadcurePatient, ...]:
    """All with outcomes."""
    return read_development(data_folder / "radcure")


@pytest.fixture(scope="module")
def tested(data_folder: Path) -> tuple[RadcurePatient, ...]:
    """The official test."""
    return read_test_inputs(data_folder / "radcure")


def test_the_extra_rows_are_told_from_the_challenge(development: tuple[RadcurePatient, ...]) -> None:
    """796 rows outside the challenge, 217 of them censored before two years (challenge: 3): never a test set."""
    assert Counter(row.part for row in development) == {Part.CHALLENGE_TRAINING: 1800, Part.EXTRA: 796}
    early = Counter(row.part for row in development if row.outcome and not row.outcome.died and row.outcome.years < 2.0)
    assert early == {Part.EXTRA: 217, Part.CHALLENGE_TRAINING: 3}


def test_the_official_test_carries_no_outcome(tested: tuple[RadcurePatient, ...]) -> None:
    """750 rows, all of the challenge's test part, every outcome absent."""
    assert len(tested) == 750
    assert {(row.part, row.outcome) for row in tested} == {(Part.CHALLENGE_TEST, None)}


def test_no_patient_stands_in_both_files(
    development: tuple[RadcurePatient, ...], tested: tuple[RadcurePatient, ...]
) -> None:
    """Development and test share no identifier."""
    assert not {row.patient_id for row in development} & {row.patient_id for row in tested}


def test_the_test_era_is_later(development: tuple[RadcurePatient, ...], tested: tuple[RadcurePatient, ...]) -> None:
    """Challenge training treats 1999 to 2008, the official test from 2007 on: random folds alone would flatter."""
    training = [row.radiotherapy_start.year for row in development if row.part is Part.CHALLENGE_TRAINING]
    assert (min(training), max(training)) == (1999, 2008)
    assert min(row.radiotherapy_start.year for row in tested) == 2007


def test_a_trailing_blank_is_still_chemoradiotherapy() -> None:
    """`ChemoRT ` with a blank at its end is one modality, not two."""
    assert _patient(_ROW, None).modality == "chemoradiotherapy"


def test_an_unknown_modality_is_refused_by_name() -> None:
    """A code nobody has explained is an error with the patient's id, not a guess."""
    with pytest.raises(UnusableInput, match="RADCURE-0000: unknown code 'Proton'"):
        _patient(_ROW | {"Tx Modality": "Proton"}, None)


def test_performance_status_in_both_spellings() -> None:
    """`ECOG-Pt 2` is grade 2; a range, `Unknown` and a blank are no grade."""
    assert [_ecog(text) for text in ("ECOG-Pt 2", "ECOG 2", "ECOG 0-1", "Unknown", "")] == [2.0, 2.0, None, None, None]


@pytest.mark.parametrize("text", ["na", "", ">50", "<20"])
def test_pack_years_that_are_no_number_are_not_known(text: str) -> None:
    """`na`, blanks and bounds leave nothing: 50 would be a guess at `>50`."""
    assert _patient(_ROW | {"Smoking PY": text}, None).pack_years is None


def test_free_stage_codes() -> None:
    """Tis and T1a keep their letter, `T3 (2)` is T3, TX, NX, blanks and a recurrence's `rT0` are not known."""
    texts = ("Tis", "T1a", "T3 (2)", "TX", "", "rT0")
    assert [_category(text, "T") for text in texts] == ["Tis", "T1a", "T3", None, None, None]
    assert _category("NX", "N") is None


def test_hpv_not_tested_is_neither_positive_nor_negative(development: tuple[RadcurePatient, ...]) -> None:
    """1,371 blanks of 2,596 stay unknown."""
    assert Counter(row.p16 for row in development) == {None: 1371, "positive": 813, "negative": 412}


def test_follow_up_is_the_column_not_a_difference_of_dates(development: tuple[RadcurePatient, ...]) -> None:
    """RADCURE-0040: dates give three weeks, the column gives 0.21 years; RADCURE-0005 starts in 2002."""
    follow_up = {row.patient_id: row.outcome for row in development}["RADCURE-0040"]
    assert follow_up is not None
    assert follow_up.years == pytest.approx(0.2137, abs=1e-4)
    assert development[0].radiotherapy_start == date(2002, 2, 20)
    assert all(row.outcome is not None and row.outcome.years > 0.0 for row in development)


def test_a_follow_up_of_zero_or_below_is_refused() -> None:
    """A negative time is an error with the id, not a clamp."""
    with pytest.raises(UnusableInput, match="RADCURE-0000: follow-up must lie above zero"):
        _outcome({"patient_id": "RADCURE-0000", "Length FU": "-10.7", "Status": "Alive"})


def test_no_person_is_hidden_under_two_identifiers(
    development: tuple[RadcurePatient, ...], tested: tuple[RadcurePatient, ...]
) -> None:
    """The duplicate-patient scan: nobody of the test shares age, sex, start, site, stage and dose with development."""

    def trait(row: RadcurePatient) -> tuple[object, ...]:
        return (row.age_years, row.male, row.radiotherapy_start, row.site, row.tumour, row.nodes, row.dose_gy)

    assert not {trait(row) for row in development} & {trait(row) for row in tested}
