"""Survival measures against answers known on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("sksurv", reason="scikit-survival is in .venv-train only: make test-train")

from training.studies.measures import (
    Outcomes,
    area_under_curve,
    brier,
    calibration,
    concordance,
    kaplan_meier,
    paired_difference,
    stratified_folds,
)

_OUTCOMES = Outcomes(years=np.array([1.0, 1.5, 3.0, 4.0]), died=np.array([True, False, True, False]))


def test_who_is_censored_before_the_horizon_is_in_neither_class() -> None:
    """The second patient left at 1.5 years: the area compares the first death with the two who outlived 2 years."""
    assert area_under_curve(_OUTCOMES, np.array([0.9, 0.0, 0.5, 0.1]), 2.0) == 1.0
    assert area_under_curve(_OUTCOMES, np.array([0.4, 9.0, 0.5, 0.1]), 2.0) == 0.5
    assert area_under_curve(_OUTCOMES, np.array([0.5, 9.0, 0.5, 0.1]), 2.0) == 0.75


def test_permuted_labels_give_no_concordance() -> None:
    """A score that knows nothing orders half of the pairs."""
    draw = np.random.default_rng(0)
    outcomes = Outcomes(years=draw.exponential(size=2000) + 0.01, died=draw.random(2000) < 0.7)
    assert concordance(outcomes, draw.normal(size=2000)) == pytest.approx(0.5, abs=0.03)


def test_kaplan_meier_on_paper() -> None:
    """Four at risk, one dies; two at risk, one dies: three quarters times a half."""
    assert kaplan_meier(_OUTCOMES, 2.0) == pytest.approx(0.75)
    assert kaplan_meier(_OUTCOMES, 3.0) == pytest.approx(0.375)


def test_brier_of_a_certain_and_right_forecast_is_zero() -> None:
    """Nothing is censored before the horizon: survival 0 for the dead and 1 for the others costs nothing."""
    outcomes = Outcomes(years=np.array([0.5, 1.0, 3.0, 3.0]), died=np.array([True, True, False, True]))
    assert brier(outcomes, np.array([0.0, 0.0, 1.0, 1.0]), 2.0, outcomes) == pytest.approx(0.0)
    assert brier(outcomes, np.full(4, 0.5), 2.0, outcomes) == pytest.approx(0.25)


def test_a_true_forecast_is_calibrated() -> None:
    """Exponential deaths at the forecast rate: O/E and slope are near one; a shrunk one has slope two."""
    draw = np.random.default_rng(1)
    index = draw.normal(size=4000)
    years = draw.exponential(size=4000) / (0.2 * np.exp(index))
    outcomes = Outcomes(years=np.minimum(years, 6.0), died=years < 6.0)
    ratio, slope = calibration(outcomes, 1.0 - np.exp(-0.4 * np.exp(index)), 2.0)
    assert ratio == pytest.approx(1.0, abs=0.05)
    assert slope == pytest.approx(1.0, abs=0.08)
    _, shrunk = calibration(outcomes, 1.0 - np.exp(-0.4 * np.exp(index / 2.0)), 2.0)
    assert shrunk == pytest.approx(2.0, abs=0.15)


def test_folds_part_the_rows_and_keep_the_strata() -> None:
    """Every row is tested once per repeat, never while it trains, and each fold has its share of deaths."""
    strata = np.arange(100) < 20
    for train, test in stratified_folds(strata, folds=5, repeats=2, seed=3):
        assert not set(train) & set(test)
        assert len(train) + len(test) == 100
        assert strata[test].sum() == 4


def test_the_error_of_shared_training_rows_is_the_larger() -> None:
    """Nadeau and Bengio: for five folds the variance is multiplied by 1/5 + 1/4, not by 1/5."""
    difference = paired_difference([0.1, 0.2, 0.3, 0.4, 0.5], [0.0] * 5, 5)
    assert difference.mean == pytest.approx(0.3)
    assert difference.error == pytest.approx(math.sqrt(0.45 * 0.025))
