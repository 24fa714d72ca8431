"""Each score on outcomes where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sksurv", reason="scikit-survival is in .venv-train only: make test-train")

from inference.contract import DAYS_PER_QUARTER  # after the skip
from training.metrics import (
    YEAR_2,
    YEAR_5,
    Seen,
    calibrate_at,
    calibration_bins,
    d_calibration,
    discriminate,
    harrell,
    kaplan_meier,
    net_benefit,
    paired_difference,
)

_ENDS = np.arange(1, 21) * DAYS_PER_QUARTER


def _exponential(count: int, stretch: float = 1.0) -> tuple[np.ndarray, Seen]:
    """True survival curves with the log-hazard stretched around its mean, and what happened under the unstretched."""
    draw = np.random.default_rng(11)
    height = draw.normal(0.0, 0.7, count)
    rate = np.exp(height) / 1500.0
    death, end = draw.exponential(1.0 / rate), draw.uniform(300.0, 3000.0, count)
    told = np.exp(height * stretch) / 1500.0
    seen = Seen(events=death <= end, days=np.minimum(death, end))
    return np.exp(-told[:, None] * _ENDS), seen


def test_the_truth_is_calibrated() -> None:
    """Slope and O/E are one within their error, and the deaths are spread as forecast."""
    curves, seen = _exponential(4000)
    for quarter in (YEAR_2, YEAR_5):
        row = calibrate_at(curves, seen, quarter)
        assert abs(row.slope - 1.0) < 3.0 * row.slope_error
        assert row.observed / row.expected == pytest.approx(1.0, abs=0.05)
    assert d_calibration(curves, seen) > 0.05


def test_forecasts_drawn_together_have_a_slope_above_one() -> None:
    """Half of the true spread on the log scale: slope two."""
    curves, seen = _exponential(4000, stretch=0.5)
    assert calibrate_at(curves, seen, YEAR_2).slope == pytest.approx(2.0, abs=0.15)


def test_a_forecast_that_is_too_low_fails_every_calibration() -> None:
    """Half of the true hazard."""
    curves, seen = _exponential(4000)
    row = calibrate_at(np.sqrt(curves), seen, YEAR_5)
    assert row.observed / row.expected > 1.3
    assert d_calibration(np.sqrt(curves), seen) < 1e-6


def test_the_truth_scores_better_than_other_patients_curves_and_than_one_for_all() -> None:
    """Concordance, AUC and Brier agree on that."""
    curves, seen = _exponential(1000)
    right, wrong = discriminate(curves, seen, seen), discriminate(curves[::-1], seen, seen)
    same = discriminate(np.tile(curves.mean(axis=0), (len(curves), 1)), seen, seen)
    assert right.harrell > 0.65 > same.harrell == same.uno == same.auc == 0.5
    assert right.brier < same.brier < wrong.brier
    assert right.uno == pytest.approx(right.harrell, abs=0.03)


def test_kaplan_meier_of_four_patients() -> None:
    """Death at 1 of 4, censored at 2, death at 3 of 2: 3/4, then 3/8."""
    seen = Seen(events=np.array([True, False, True, False]), days=np.array([1.0, 2.0, 3.0, 4.0]))
    assert kaplan_meier(seen, 2.5) == 0.75
    assert kaplan_meier(seen, 3.0) == 0.375


def test_concordance_counts_pairs() -> None:
    """Perfect order is one, reversed is zero."""
    seen = Seen(events=np.array([True, True, True]), days=np.array([1.0, 2.0, 3.0]))
    assert harrell(np.array([3.0, 2.0, 1.0]), seen) == 1.0
    assert harrell(np.array([1.0, 2.0, 3.0]), seen) == 0.0


def test_bins_rise_with_the_forecast() -> None:
    """From the lowest risk to the highest, and observed follows."""
    curves, seen = _exponential(4000)
    bins = calibration_bins(curves, seen, YEAR_2, 5)
    assert [forecast for forecast, _ in bins] == sorted(forecast for forecast, _ in bins)
    for forecast, observed in bins:
        assert observed == pytest.approx(forecast, abs=0.06)


def test_net_benefit_of_treating_everyone_is_the_formula() -> None:
    """Event rate minus the odds of the threshold times the rest; treating nobody gives nothing."""
    seen = Seen(events=np.array([True, True, False, False]), days=np.array([10.0, 20.0, 900.0, 900.0]))
    assert net_benefit(np.ones(4), seen, 730.0, 0.2) == pytest.approx(0.5 - 0.5 * 0.25)
    assert net_benefit(np.zeros(4), seen, 730.0, 0.2) == 0.0


def test_overlapping_training_sets_widen_the_error() -> None:
    """Nadeau and Bengio: with 25 values of five folds, the variance is that of the mean times 1 + 25/4."""
    draw = np.random.default_rng(3)
    ours, theirs = draw.normal(0.71, 0.02, 25), draw.normal(0.70, 0.02, 25)
    mean, error = paired_difference(list(ours), list(theirs), 5)
    plain = (ours - theirs).std(ddof=1) / 5.0
    assert mean == pytest.approx((ours - theirs).mean())
    assert error == pytest.approx(plain * np.sqrt(1.0 + 25.0 / 4.0))
