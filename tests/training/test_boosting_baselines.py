"""The two boosted baselines answer the same question as our model, on the same patients, and learn what is there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("xgboost", reason="xgboost is in .venv-train only: make test-train")

from tests.training.patients import cohort  # after the skip
from training.boosting_baselines import SURVIVAL_BOOST, XGBOOST, forecast_survival_boost, forecast_xgboost
from training.crossvalidate import Study
from training.horizon_boosting import event_by_horizon
from training.postoperative_contract import postoperative_contract
from training.recipe import QUICK

_ROWS = cohort(200)
_STUDY = Study(name="made up", rows=_ROWS, others=(), contract=postoperative_contract())


@pytest.mark.parametrize(("name", "forecast"), [(SURVIVAL_BOOST, forecast_survival_boost), (XGBOOST, forecast_xgboost)])
def test_survival_falls_and_who_relapses_more_is_told_so(name: str, forecast: object) -> None:
    """Twenty quarters, each within 0 and 1 and none above the one before; pN2 relapses four times as often."""
    curves = forecast(_STUDY, _ROWS[:150], _ROWS[150:], QUICK, seed=1)[f"{name}/RFS"]  # type: ignore[operator]
    assert curves.shape == (50, 20)
    assert ((curves >= 0.0) & (curves <= 1.0)).all()
    assert (np.diff(curves, axis=1) <= 1e-6).all()
    place = [entry.name for entry in _STUDY.contract.static].index("pN")
    positive = np.array([row.model_input.static[place] > 0 for row in _ROWS[150:]])
    assert curves[positive, 11].mean() < curves[~positive, 11].mean()


def test_whoever_is_censored_before_the_horizon_is_no_survivor() -> None:
    """Half leave early by lot: the answer stays near the true 0.63. Breach: the early leavers counted as alive."""
    draw = np.random.default_rng(3)
    death = draw.exponential(1.0, 4000)
    end = np.where(draw.random(4000) < 0.5, draw.uniform(0.0, 1.0, 4000), 5.0)
    table = draw.normal(size=(4000, 1))
    risk = event_by_horizon(table, death <= end, np.minimum(death, end), 1.0, table[:200], trees=30, seed=1)
    assert risk.mean() == pytest.approx(1.0 - np.exp(-1.0), abs=0.04)


def test_an_event_that_nobody_had_is_not_forecast() -> None:
    """One answer in training is the answer for all, not an error of the library."""
    table, times = np.zeros((10, 1)), np.full(10, 3.0)
    assert event_by_horizon(table, np.zeros(10, np.bool_), times, 1.0, table[:2], trees=5, seed=1).tolist() == [
        0.0,
        0.0,
    ]
