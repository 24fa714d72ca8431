"""Effects with their uncertainty; silence; immortal time; what two causes imply."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is in .venv-train only: make test-train")

from training.cohorts.randomised import read_colon_trial, read_oropharynx_trial
from training.cohorts.tcga_treatment import TreatedPatient, read_treatments
from training.studies.immortal_time import immortal_share, immortal_time
from training.studies.implied_effect import CANCER, OTHER, cancer_share, implied_ratio, without_given
from training.studies.measures import Outcomes
from training.studies.simulated_trial import GRID_YEARS, Hazards, simulate
from training.studies.treatment_effect import Advice, LogRatio, advise, fit_cox, hazard_ratio, shown
from training.studies.trial_nulls import _cross_fitted


def _hazards(cancer: float, other: float, count: int = 1) -> Hazards:
    return Hazards(cancer=np.tile(cancer * GRID_YEARS, (count, 1)), other=np.tile(other * GRID_YEARS, (count, 1)))


def test_the_head_and_neck_null_is_met_with_silence(data_folder: Path) -> None:
    """RTOG oropharynx found nothing, HR 1.19 (0.85-1.66): at least four fifths get no advice."""
    patients = read_oropharynx_trial(data_folder / "generic_survival")
    treated = np.array([patient.treated for patient in patients])
    outcomes = Outcomes(years=np.array([p.years for p in patients]), died=np.array([p.died for p in patients]))
    assert shown(hazard_ratio(outcomes, treated)) == "1.19 (0.85-1.66)"
    assert (_cross_fitted(patients, treated, 1) == Advice.ABSTAIN).mean() >= 0.8


def test_a_trial_that_found_a_benefit_is_not_met_with_silence(data_folder: Path) -> None:
    """Fluorouracil after colon surgery: most are advised, and nobody is told to go without."""
    patients = read_colon_trial(data_folder / "generic_survival")
    advice = _cross_fitted(patients, np.array([patient.treated for patient in patients]), 1)
    assert (advice == Advice.TREAT).mean() > 0.5
    assert (advice == Advice.WITHHOLD).mean() == 0.0


def test_advice_needs_certainty_on_either_side() -> None:
    """At 95 %: act from 0.95 up, warn from 0.05 down, silent between; at 50 % never silent."""
    benefit = np.array([0.96, 0.94, 0.5, 0.06, 0.04])
    assert advise(benefit).tolist() == [1, 0, 0, 0, -1]
    assert Advice.ABSTAIN not in advise(benefit, 0.5).tolist()


def test_the_hazard_ratio_of_a_planted_effect_is_found() -> None:
    """Exponential deaths, halved hazard: 0.5 within its own error; a strong prior pulls it to nothing."""
    draw = np.random.default_rng(2)
    treated = draw.random(3000) < 0.5
    years = draw.exponential(size=3000) / np.where(treated, 0.1, 0.2)
    outcomes = Outcomes(years=np.minimum(years, 10.0), died=years < 10.0)
    found = hazard_ratio(outcomes, treated)
    assert abs(found.mean - math.log(0.5)) < 2.5 * found.error
    pulled = fit_cox(treated.astype(np.float64)[:, None], outcomes, np.array([1e9]))
    assert pulled.weights[0] == pytest.approx(0.0, abs=1e-3)


def test_a_published_interval_becomes_an_error() -> None:
    """0.81 (0.68-0.97) is printed again as it was read, to the last digit that print keeps symmetrical."""
    assert shown(LogRatio.published(0.81, 0.68, 0.97)) == "0.81 (0.68-0.97)"


def _patient(*, radiotherapy: bool, start: float | None, last: float, died: bool) -> TreatedPatient:
    return TreatedPatient(
        patient_id="x", age_years=60.0, advanced=True, neoadjuvant=False, high_risk=False, radiotherapy=radiotherapy,
        chemotherapy=None, radiotherapy_start_day=start, dose_gy=None, drugs=frozenset(), last_days=last, died=died,
    )  # fmt: skip


def test_immortal_time_at_landmark_zero_is_detected() -> None:
    """Equal hazards, but the treated had to live 90 days: landmark 0 shows a benefit, and the gate names the trap."""
    draw = np.random.default_rng(4)
    lives = draw.exponential(600.0, size=1500) + 1.0
    meant = draw.random(1500) < 0.6
    patients = [
        _patient(radiotherapy=bool(m and life > 90.0), start=90.0 if m and life > 90.0 else None, last=life, died=True)
        for life, m in zip(lives, meant, strict=True)
    ]
    answer = immortal_time(patients)
    assert answer.gates[0].passed
    assert (immortal_share(patients, 0.0), immortal_share(patients, 120.0)) == (1.0, 0.0)
    late = [patient for patient in patients if patient.last_days > 120.0]
    honest = hazard_ratio(
        Outcomes(years=np.array([p.last_days - 120.0 for p in late]), died=np.array([p.died for p in late])),
        np.array([bool(p.radiotherapy) for p in late]),
    )
    assert abs(honest.mean) < 2.5 * honest.error


def test_immortal_time_in_tcga_is_detected(data_folder: Path) -> None:
    """The real trap: everyone begins after diagnosis, and the ratio at landmark 0 is the lowest."""
    assert immortal_time(read_treatments(data_folder / "tcga_hnsc")).gates[0].passed


def test_one_cause_alone_implies_its_own_ratio() -> None:
    """Only cancer deaths: the overall ratio is the cancer ratio; none of them: the other."""
    assert implied_ratio(_hazards(0.02, 0.0), 0.68, 1.51, 10.0) == pytest.approx(0.68, abs=0.01)
    assert implied_ratio(_hazards(0.0, 0.02), 0.68, 1.51, 10.0) == pytest.approx(1.51, abs=0.02)


def test_the_priors_meet_the_trial_where_most_deaths_are_from_cancer() -> None:
    """Five deaths in six from cancer imply the published overall 0.81; two in three imply almost no benefit."""
    ratios = math.exp(CANCER.mean), math.exp(OTHER.mean)
    trial = _hazards(0.05, 0.01)
    assert cancer_share(trial, 5.0) == pytest.approx(5.0 / 6.0)
    assert implied_ratio(trial, *ratios, 5.0) == pytest.approx(0.81, abs=0.02)
    assert implied_ratio(_hazards(0.04, 0.02), *ratios, 5.0) == pytest.approx(0.95, abs=0.03)


def test_taking_a_given_treatment_away_is_the_inverse_of_giving_it() -> None:
    """Where all had it, the hazards without it give the recorded ones back; where none had, they are the recorded."""
    recorded = _hazards(0.03, 0.02)
    untreated = without_given(recorded, 1.0)
    assert np.allclose(untreated.cancer * math.exp(CANCER.mean), recorded.cancer)
    assert np.allclose(untreated.other * math.exp(OTHER.mean), recorded.other)
    assert np.array_equal(without_given(recorded, 0.0).cancer, recorded.cancer)
    assert cancer_share(untreated, 5.0) > cancer_share(recorded, 5.0)


def test_simulated_deaths_follow_their_hazards() -> None:
    """A treatment that halves cancer hazard halves early cancer deaths and leaves the other cause alone."""
    draw = np.random.default_rng(6)
    hazards, ones = _hazards(0.05, 0.05, 4000), np.ones(4000)
    treated = draw.random(4000) < 0.5
    course = simulate(hazards, treated, (0.5 * ones, ones), draw)
    cancer, other = hazard_ratio(course.cancer, treated), hazard_ratio(course.other, treated)
    assert cancer.mean == pytest.approx(math.log(0.5), abs=2.5 * cancer.error)
    assert other.mean == pytest.approx(0.0, abs=2.5 * other.error)
    assert not (course.cancer.died & course.other.died).any()
