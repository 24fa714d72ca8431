"""Survival measures shared by the studies, on plain arrays, times in years."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import brier_score, concordance_index_censored
from sksurv.util import Surv

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
_SMALLEST = 1e-6
_NORMAL_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """years: to death or the last contact, (N,), above zero. died: (N,)."""

    years: Floats
    died: NDArray[np.bool_]

    def at(self, rows: Integers) -> Outcomes:
        """Some of the patients."""
        return Outcomes(years=self.years[rows], died=self.died[rows])

    def until(self, years: float) -> Outcomes:
        """Censored at a horizon: a death exactly there still counts."""
        return Outcomes(years=np.minimum(self.years, years), died=self.died & (self.years <= years))

    def structured(self) -> NDArray[np.void]:
        """As scikit-survival takes it."""
        pairs: NDArray[np.void] = Surv.from_arrays(self.died, self.years)
        return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A paired difference over folds. error: Nadeau and Bengio (2003), for folds that share training rows."""

    mean: float
    error: float

    def interval(self) -> str:
        """Mean and normal 95 % interval, signed."""
        low, high = self.mean - _NORMAL_95 * self.error, self.mean + _NORMAL_95 * self.error
        return f"{self.mean:+.3f} ({low:+.3f} to {high:+.3f})"


def concordance(outcomes: Outcomes, risk: Floats) -> float:
    """Harrell's C, 0 to 1; higher risk should die sooner."""
    return float(concordance_index_censored(outcomes.died, outcomes.years, risk)[0])


def area_under_curve(outcomes: Outcomes, risk: Floats, horizon: float) -> float:
    """ROC area for death by the horizon, 0 to 1. Who is censored before it belongs to neither class and is left out."""
    dead = outcomes.died & (outcomes.years <= horizon)
    alive = outcomes.years > horizon
    differences = risk[dead][:, None] - risk[alive][None, :]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def brier(outcomes: Outcomes, survival: Floats, horizon: float, training: Outcomes) -> float:
    """Brier score at the horizon, weighted by the training rows' censoring. survival: (N,), to outlive the horizon."""
    # who outlives the horizon is known to: the weights need no censoring curve beyond it
    later = float(np.nextafter(horizon, math.inf)) + _SMALLEST
    seen = Outcomes(years=np.minimum(outcomes.years, later), died=outcomes.died & (outcomes.years <= horizon))
    curve = Outcomes(years=np.minimum(training.years, later), died=training.died & (training.years <= horizon))
    return float(brier_score(curve.structured(), seen.structured(), survival[:, None], [horizon])[1][0])


def kaplan_meier(outcomes: Outcomes, horizon: float) -> float:
    """Share that outlives the horizon."""
    survival = 1.0
    for moment in np.unique(outcomes.years[outcomes.died & (outcomes.years <= horizon)]):
        at_risk = (outcomes.years >= moment).sum()
        survival *= 1.0 - (outcomes.died & (outcomes.years == moment)).sum() / at_risk
    return float(survival)


def calibration(outcomes: Outcomes, risk: Floats, horizon: float) -> tuple[float, float]:
    """Observed over expected deaths by the horizon, and the slope of a Cox fit on the log-log forecast."""
    observed = 1.0 - kaplan_meier(outcomes, horizon)
    clipped = np.clip(risk, _SMALLEST, 1.0 - _SMALLEST)
    log_log = np.log(-np.log(1.0 - clipped))[:, None]
    slope = CoxPHSurvivalAnalysis(alpha=_SMALLEST).fit(log_log, outcomes.until(horizon).structured()).coef_[0]
    return observed / float(risk.mean()), float(slope)


def stratified_folds(
    strata: NDArray[np.bool_], *, folds: int, repeats: int, seed: int
) -> Iterator[tuple[Integers, Integers]]:
    """Training and test rows of every fold of every repeat, each stratum spread evenly; the same for every model."""
    draw = np.random.default_rng(seed)
    for _ in range(repeats):
        place = np.empty(len(strata), dtype=np.int64)
        for stratum in (False, True):
            members = draw.permutation(np.flatnonzero(strata == stratum))
            place[members] = np.arange(len(members)) % folds
        for fold in range(folds):
            yield np.flatnonzero(place != fold), np.flatnonzero(place == fold)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], folds: int) -> Difference:
    """Mean of our minus their score over the same folds."""
    differences = np.array(ours) - np.array(theirs)
    correction = 1.0 / len(differences) + 1.0 / (folds - 1)
    return Difference(mean=float(differences.mean()), error=float(math.sqrt(correction * differences.var(ddof=1))))
