"""A forecast stretched and shifted on the log-log scale: what heavy regularisation shrinks is given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from training.studies.measures import (
    Floats,
    Integers,
    Outcomes,
    calibration,
    kaplan_meier,
    stratified_folds,
)

_SMALLEST = 1e-6
_WIDEST_SHIFT = 5.0
_FOLDS = 4


def log_log(risk: Floats) -> Floats:
    """ln(-ln(1 - risk)), the scale on which proportional hazards are a shift."""
    return np.asarray(np.log(-np.log(1.0 - np.clip(risk, _SMALLEST, 1.0 - _SMALLEST))), dtype=np.float64)


def from_log_log(value: Floats) -> Floats:
    """The risk again, 0 to 1."""
    return np.asarray(1.0 - np.exp(-np.exp(value)), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalibration:
    """log-log risk becomes shift + scale x log-log risk. The order of patients stays."""

    shift: float
    scale: float

    def apply(self, risk: Floats) -> Floats:
        """Recalibrated risk, 0 to 1."""
        return from_log_log(self.shift + self.scale * log_log(risk))


def fit_recalibration(outcomes: Outcomes, risk: Floats, horizon: float) -> Recalibration:
    """From forecasts of rows that did not train them: the Cox slope, then the shift that meets Kaplan-Meier's mean."""
    _, scale = calibration(outcomes, risk, horizon)
    observed, predictor = 1.0 - kaplan_meier(outcomes, horizon), scale * log_log(risk)

    def excess(shift: float) -> float:
        return float(from_log_log(shift + predictor).mean()) - observed

    return Recalibration(shift=float(brentq(excess, -_WIDEST_SHIFT, _WIDEST_SHIFT)), scale=scale)


def inner_recalibration(
    outcomes: Outcomes, forecast: Callable[[Integers, Integers], Floats], horizon: float, seed: int
) -> Recalibration:
    """By cross-validation inside the training rows. forecast(train, test): risk at the horizon of the test rows."""
    held_out = np.zeros(len(outcomes.years))
    early = outcomes.died & (outcomes.years <= horizon)
    for train, test in stratified_folds(early, folds=_FOLDS, repeats=1, seed=seed):
        held_out[test] = forecast(train, test)
    return fit_recalibration(outcomes, held_out, horizon)
