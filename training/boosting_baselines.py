"""Two kinds of boosting that papers of this field compare with, on the very folds of our model.

SurvivalBoost (hazardous) as its authors ship it; XGBoost as RADAR asks it, once a horizon. At the decision landmark
every patient has one visit; `training.studies.landmarks` asks XGBoost at every visit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from hazardous import SurvivalBoost
from numpy.typing import NDArray

from inference.contract import DAYS_PER_QUARTER
from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import ROWS_DECIDE, Contest, Forecasts, Study
from training.horizon_boosting import Floats, event_by_horizon
from training.likelihood import batch_of
from training.outcomes import ENDPOINTS, outcomes
from training.recipe import Effort, batch_with, engineered

Flags = NDArray[np.bool_]
SURVIVAL_BOOST, XGBOOST = "SurvivalBoost", "XGBoost by horizon"
_ENDS = np.arange(1, 21) * DAYS_PER_QUARTER
_YEARS = np.array([3, 7, 11, 15, 19])  # quarters that end a year: RADAR's five horizons
_XGBOOST_TREES, _SURVIVAL_BOOST_ROUNDS = 150, 100  # the second is the library's own
_TREES_A_ROUND = 4  # of our own boosted trees, so that a quick fit asks for few rounds


def forecast_survival_boost(
    study: Study, fitting: Sequence[LandmarkRow], testing: Sequence[LandmarkRow], effort: Effort, *, seed: int
) -> Forecasts:
    """SurvivalBoost on the covariates of our other trees."""
    table, asked = _tables(study, fitting, testing)
    rounds = min(_SURVIVAL_BOOST_ROUNDS, effort.trees // _TREES_A_ROUND)
    return {
        f"{SURVIVAL_BOOST}/{endpoint}": _survival_boost(table, *observed, asked, rounds=rounds, seed=seed)
        for endpoint, observed in _observed(study, fitting)
    }


def forecast_xgboost(
    study: Study, fitting: Sequence[LandmarkRow], testing: Sequence[LandmarkRow], effort: Effort, *, seed: int
) -> Forecasts:
    """XGBoost at one to five years on the covariates of our other trees."""
    table, asked = _tables(study, fitting, testing)
    trees = min(_XGBOOST_TREES, effort.trees)
    return {
        f"{XGBOOST}/{endpoint}": _by_horizon(table, *observed, asked, trees=trees, seed=seed)
        for endpoint, observed in _observed(study, fitting)
    }


def _tables(study: Study, fitting: Sequence[LandmarkRow], testing: Sequence[LandmarkRow]) -> tuple[Floats, Floats]:
    """Engineered covariates and the cohort as one more, of the rows to fit (both cohorts) and to ask about."""
    batch = batch_with(fitting, study.others)
    engineering, covariates = engineered(study.contract, batch)
    with torch.no_grad():
        asked = engineering(*batch_of(testing).inputs[:4]).numpy().astype(np.float64)
    table = np.column_stack([covariates.values.numpy().astype(np.float64), batch.cohort.numpy()])
    return table, np.column_stack([asked, np.zeros(len(asked))])


def _observed(study: Study, fitting: Sequence[LandmarkRow]) -> Iterator[tuple[str, tuple[Flags, Floats]]]:
    everyone = [*fitting, *study.others]
    yield from ((endpoint, outcomes(everyone, endpoint)) for endpoint in ENDPOINTS)


def _survival_boost(
    table: Floats, events: Flags, days: Floats, asked: Floats, *, rounds: int, seed: int
) -> NDArray[np.float32]:
    """Event-free at the end of each quarter, (M, 20). Its curves may rise by chance: they are held down."""
    model = SurvivalBoost(n_iter=rounds, ipcw_strategy="kaplan-meier", show_progressbar=False, random_state=seed)
    model.fit(table, pd.DataFrame({"event": events.astype(np.int64), "duration": days}))
    curves = np.asarray(model.predict_survival_function(asked, times=_ENDS), dtype=np.float64)
    return np.minimum.accumulate(curves, axis=1).astype(np.float32)


def _by_horizon(
    table: Floats, events: Flags, days: Floats, asked: Floats, *, trees: int, seed: int
) -> NDArray[np.float32]:
    """Event-free at the end of each quarter, (M, 20): straight between the yearly answers, which may not rise."""
    answers = [
        1.0 - event_by_horizon(table, events, days, float(horizon), asked, trees=trees, seed=seed)
        for horizon in _ENDS[_YEARS]
    ]
    yearly = np.minimum.accumulate(np.column_stack([np.ones(len(asked)), *answers]), axis=1)
    moments = np.append(0.0, _ENDS[_YEARS])
    return np.stack([np.interp(_ENDS, moments, row) for row in yearly]).astype(np.float32)


_DECIDING = (*ROWS_DECIDE, "boosting_baselines", "horizon_boosting")
CONTESTS = (
    Contest(name="xgboost", deciding=_DECIDING, forecast=forecast_xgboost),
    Contest(name="survivalboost", deciding=_DECIDING, forecast=forecast_survival_boost),
)
