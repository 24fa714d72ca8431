"""Scores of survival curves on patients the fit never saw: concordance, Brier, calibration, distribution of deaths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import (
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from sksurv.util import Surv

from inference.contract import DAYS_PER_QUARTER

Curves = NDArray[np.float64]
YEAR_2, YEAR_3, YEAR_5 = 7, 11, 19  # index of the quarter that ends there
_TIMES = np.arange(2, 20) * DAYS_PER_QUARTER  # half a year to under five years, in days
_ENDS = np.arange(1, 21) * DAYS_PER_QUARTER
_BINS = 10
_NEARLY = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """What happened: whether, and after how many days, each (N,)."""

    events: NDArray[np.bool_]
    days: NDArray[np.float64]

    def part(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Seen:
        """Some rows."""
        return Seen(events=self.events[chosen], days=self.days[chosen])

    def until(self, days: float) -> Seen:
        """Followed no longer than that."""
        return Seen(events=self.events & (self.days <= days), days=np.minimum(self.days, days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrimination:
    """harrell, uno: concordance with the risk at three years. auc: at two years. brier: integrated."""

    harrell: float
    uno: float
    auc: float
    brier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """At one horizon: mean forecast, Kaplan-Meier, slope of a Cox fit on the log-log forecast, its standard error."""

    expected: float
    observed: float
    slope: float
    slope_error: float


def discriminate(curves: Curves, testing: Seen, fitting: Seen) -> Discrimination:
    """curves: survival of the test rows at 20 quarters, (n, 20). fitting: rows for the weights of censoring."""
    risk = 1.0 - curves[:, YEAR_3]
    inside = testing.days < fitting.days.max()
    known, asked = _structured(fitting), _structured(testing.part(inside))
    at_times = np.stack([np.interp(_TIMES, np.append(0.0, _ENDS), np.append(1.0, row)) for row in curves[inside]])
    constant = float(np.ptp(risk)) < _NEARLY
    return Discrimination(
        harrell=harrell(risk, testing),
        uno=0.5 if constant else float(concordance_index_ipcw(known, asked, risk[inside], tau=_ENDS[YEAR_5])[0]),
        auc=0.5 if constant else auc_at(curves[inside], testing.part(inside), fitting, YEAR_2),
        brier=float(integrated_brier_score(known, asked, at_times, _TIMES)),
    )


def harrell(risk: NDArray[np.float64], seen: Seen) -> float:
    """Harrell's concordance."""
    return float(concordance_index_censored(seen.events, seen.days, risk)[0])


def auc_at(curves: Curves, seen: Seen, fitting: Seen, quarter: int) -> float:
    """Cumulative against dynamic, weighted for censoring, at the end of one quarter."""
    values, _ = cumulative_dynamic_auc(
        _structured(fitting), _structured(seen), 1.0 - curves[:, quarter], _ENDS[quarter]
    )
    return float(values[0])


def kaplan_meier(seen: Seen, days: float) -> float:
    """Survival at a time."""
    survival = 1.0
    for moment in np.unique(seen.days[seen.events & (seen.days <= days)]):
        survival *= 1.0 - (seen.events & (seen.days == moment)).sum() / (seen.days >= moment).sum()
    return survival


def calibrate_at(curves: Curves, seen: Seen, quarter: int) -> Calibration:
    """Observed against expected at the end of one quarter. curves: (N, 20)."""
    horizon = float(_ENDS[quarter])
    survival = np.clip(curves[:, quarter], _NEARLY, 1.0 - _NEARLY)
    height = np.log(-np.log(survival))[:, None]
    cut = seen.until(horizon)
    slope = float(CoxPHSurvivalAnalysis().fit(height, _structured(cut)).coef_[0])
    return Calibration(
        expected=float(1.0 - survival.mean()),
        observed=1.0 - kaplan_meier(seen, horizon),
        slope=slope,
        slope_error=1.0 / math.sqrt(_information(slope * height[:, 0], height[:, 0], cut)),
    )


def _information(risk: NDArray[np.float64], covariate: NDArray[np.float64], seen: Seen) -> float:
    """Observed information of a Cox fit with one covariate."""
    weight, total = np.exp(risk - risk.max()), 0.0
    for moment in seen.days[seen.events]:
        beside = seen.days >= moment
        share = weight[beside] / weight[beside].sum()
        mean = (share * covariate[beside]).sum()
        total += float((share * (covariate[beside] - mean) ** 2).sum())
    return total


def calibration_bins(curves: Curves, seen: Seen, quarter: int, bins: int) -> list[tuple[float, float]]:
    """Mean forecast risk and Kaplan-Meier risk of equally many patients, from low to high."""
    risk = 1.0 - curves[:, quarter]
    groups = np.array_split(np.argsort(risk, kind="stable"), bins)
    horizon = float(_ENDS[quarter])
    return [(float(risk[group].mean()), 1.0 - kaplan_meier(seen.part(group), horizon)) for group in groups]


def d_calibration(curves: Curves, seen: Seen) -> float:
    """P of Haider's test that survival at the time of death is uniform; the censored count in parts.

    Followed for five years: whoever lives longer is censored there. Source: Haider et al., JMLR 2020;21:85.
    """
    cut = seen.until(float(_ENDS[YEAR_5]))
    place = np.append(0.0, _ENDS)
    at_end = np.array([np.interp(day, place, np.append(1.0, row)) for day, row in zip(cut.days, curves, strict=True)])
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    counts = np.zeros(_BINS)
    for survival, event in zip(np.clip(at_end, _NEARLY, 1.0), cut.events, strict=True):
        own = min(int(survival * _BINS), _BINS - 1)
        if event:
            counts[own] += 1.0
            continue
        counts[own] += (survival - edges[own]) / survival
        counts[:own] += (1.0 / _BINS) / survival
    expected = len(curves) / _BINS
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), _BINS - 1))


def net_benefit(risk: NDArray[np.float64], seen: Seen, horizon: float, threshold: float) -> float:
    """Of treating whoever's risk is at or above the threshold, per patient. Source: Vickers et al., 2008."""
    return net_benefit_of(risk >= threshold, seen, horizon, threshold)


def net_benefit_of(treated: NDArray[np.bool_], seen: Seen, horizon: float, threshold: float) -> float:
    """Of treating these patients, (N,), for one who would act from the threshold on, per patient."""
    if not treated.any():
        return 0.0
    share = float(treated.mean())
    event = 1.0 - kaplan_meier(seen.part(treated), horizon)
    return share * event - share * (1.0 - event) * threshold / (1.0 - threshold)


def paired_difference(ours: Sequence[float], theirs: Sequence[float], folds: int) -> tuple[float, float]:
    """Mean difference over the same folds and its standard error. Source: Nadeau and Bengio, 2003."""
    differences = np.array(ours) - np.array(theirs)
    correction = 1.0 / len(differences) + 1.0 / (folds - 1)
    return float(differences.mean()), float(math.sqrt(correction * differences.var(ddof=1)))


def bootstrap_error(risk: NDArray[np.float64], seen: Seen, samples: int, seed: int) -> float:
    """Standard error of Harrell's concordance by resampling patients."""
    draw = np.random.default_rng(seed)
    values = []
    for _ in range(samples):
        chosen = draw.integers(0, len(risk), len(risk))
        values.append(harrell(risk[chosen], seen.part(chosen)))
    return float(np.std(values))


def _structured(seen: Seen) -> NDArray[np.void]:
    structured: NDArray[np.void] = Surv.from_arrays(seen.events, seen.days)
    return structured
