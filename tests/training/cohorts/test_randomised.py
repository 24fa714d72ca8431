"""The traps of the randomised sets, each handled and named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from training.cohorts.randomised import (
    read_cetuximab_trial,
    read_colon_trial,
    read_gastric_adjuvant,
    read_oropharynx_trial,
)


def test_the_oropharynx_trial_is_whole(data_folder: Path) -> None:
    """192 patients, 139 deaths, 94 in arm 2, which adds chemotherapy; sites are codes, not a scale."""
    patients = read_oropharynx_trial(data_folder / "generic_survival")
    assert (len(patients), sum(p.died for p in patients), sum(p.treated for p in patients)) == (192, 139, 94)
    assert {p.covariates["site_2"] + p.covariates["site_4"] for p in patients} == {0.0, 1.0}


def test_gastric_trials_stay_apart(data_folder: Path) -> None:
    """3,288 patients of 14 trials; overall survival is timeT, not the disease-free timeS."""
    patients = read_gastric_adjuvant(data_folder / "generic_survival")
    assert (len(patients), len(Counter(p.covariates["trial"] for p in patients))) == (3288, 14)
    assert round(patients[3].years * 365.25) == 485


def test_colon_counts_each_patient_once(data_folder: Path) -> None:
    """Each stands twice in the file, for recurrence and death; the levamisole-only arm belongs to neither group."""
    patients = read_colon_trial(data_folder / "generic_survival")
    assert len(patients) == len({p.patient_id for p in patients}) == 619
    assert sum(p.treated for p in patients) == 304


def test_the_reconstructed_trial_has_no_covariates(data_folder: Path) -> None:
    """424 patients read off curves carry arms and times, nothing to personalise by."""
    patients = read_cetuximab_trial(data_folder / "generic_survival")
    assert (len(patients), sum(p.treated for p in patients)) == (424, 211)
    assert not any(p.covariates for p in patients)
