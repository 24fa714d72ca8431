"""How good the model is on patients it never saw: cross-validation, baselines on the same folds, another cohort."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored, integrated_brier_score
from sksurv.util import Surv

from inference.contract import DAYS_PER_QUARTER, ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.likelihood import Batch, Penalty, batch_of, fit_model, joined
from training.network import IllnessDeath

REPEATS, FOLDS, SEED = 5, 5, 20260101
_TIMES = np.arange(2, 20) * DAYS_PER_QUARTER  # half a year to under five years, in days
_YEAR_3, _YEAR_2 = 11, 7  # index of the quarter that ends there
ENDPOINTS = ("RFS", "OS")
ENGINEERED_ALPHA, NAIVE_ALPHA = 300.0, 10.0  # ridge weights of the baselines, fixed beforehand by earlier work
_BOOTSTRAPS = 200
Curves = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model on one fold. concordance: Harrell's C; brier: integrated over half a year to five years."""

    model: str
    endpoint: str
    fold: int
    concordance: float
    brier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Observed against expected at two years, over the held-out rows of one repeat; slope on the log-log scale."""

    endpoint: str
    expected: float
    observed: float
    slope: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything the report prints."""

    scores: tuple[Score, ...]
    calibration: tuple[Calibration, ...]
    external: tuple[tuple[str, float, float, int, int], ...]


def evaluate(
    rows: Sequence[LandmarkRow],
    others: Sequence[LandmarkRow],
    contract: ModelContract,
    progress: Callable[[str], None],
) -> Evaluation:
    """rows: the cohort that is cross-validated. others: a second cohort, trained on in every fold, and tested apart."""
    scores: list[Score] = []
    held_out: dict[int, Curves] = {}
    other_batch = batch_of(others, cohort=1)
    for fold, (train, test) in enumerate(folds(len(rows))):
        progress(f"fold {fold + 1} of {REPEATS * FOLDS}")
        fitting, testing = [rows[i] for i in train], [rows[i] for i in test]
        model = fit_model(IllnessDeath(contract), joined([batch_of(fitting), other_batch]), Penalty())
        curves = _survival(model, batch_of(testing))
        scores += _scores("illness-death", curves, fitting, testing, fold)
        for name, alpha, engineered in (("naive Cox", NAIVE_ALPHA, False), ("engineered Cox", ENGINEERED_ALPHA, True)):
            cox = _cox(model, fitting, testing, alpha=alpha, engineered=engineered)
            scores += _scores(name, cox, fitting, testing, fold)
        if fold < FOLDS:
            held_out.update({int(index): curves[:, row] for row, index in enumerate(test)})
    pooled = np.stack([held_out[index] for index in range(len(rows))], axis=1)
    progress("external test")
    alone = fit_model(IllnessDeath(contract), batch_of(rows), Penalty())
    external = _survival(alone, batch_of(others))
    return Evaluation(
        scores=tuple(scores),
        calibration=tuple(_calibration(endpoint, pooled[place], rows) for place, endpoint in enumerate(ENDPOINTS)),
        external=tuple(_external(endpoint, external[place], others) for place, endpoint in enumerate(ENDPOINTS)),
    )


def folds(count: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test indices of every fold of every repeat; the same for every model that is compared."""
    draw = np.random.default_rng(SEED)
    for _ in range(REPEATS):
        order = draw.permutation(count)
        for test in np.array_split(order, FOLDS):
            yield np.setdiff1d(order, test), test


def _survival(model: IllnessDeath, batch: Batch) -> Curves:
    """Event-free and overall survival by quarter, (2, N, H)."""
    model.double().eval()
    with torch.no_grad():
        recurrence, without, death = model(*batch.inputs)
    return np.stack([1.0 - (recurrence + without).numpy(), 1.0 - death.numpy()])


def outcomes(rows: Sequence[LandmarkRow], endpoint: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether the endpoint was seen and after how many days, each (N,). RFS: recurrence or death; OS: death."""
    if endpoint == "OS":
        return np.array([row.died for row in rows]), np.array([row.last_days for row in rows])
    events = np.array([row.illness_days is not None or row.died for row in rows])
    return events, np.array([row.last_days if row.illness_days is None else row.illness_days for row in rows])


def _scores(
    name: str, curves: Curves, fitting: Sequence[LandmarkRow], testing: Sequence[LandmarkRow], fold: int
) -> Iterator[Score]:
    for place, endpoint in enumerate(ENDPOINTS):
        events, times = outcomes(testing, endpoint)
        train_events, train_times = outcomes(fitting, endpoint)
        inside = times < train_times.max()
        at_times = np.stack([np.interp(_TIMES, _quarter_ends(), curve) for curve in curves[place]])
        brier = integrated_brier_score(
            Surv.from_arrays(train_events, train_times),
            Surv.from_arrays(events[inside], times[inside]),
            at_times[inside],
            _TIMES,
        )
        concordance = concordance_index_censored(events, times, 1.0 - curves[place][:, _YEAR_3])[0]
        yield Score(model=name, endpoint=endpoint, fold=fold, concordance=float(concordance), brier=float(brier))


def _quarter_ends() -> NDArray[np.float64]:
    return np.arange(1, 21, dtype=np.float64) * DAYS_PER_QUARTER


def _cox(
    model: IllnessDeath,
    fitting: Sequence[LandmarkRow],
    testing: Sequence[LandmarkRow],
    *,
    alpha: float,
    engineered: bool,
) -> Curves:
    """Ridge Cox on the model's own covariates, or on raw contract values z-scored with missing at the mean."""
    left, right = (_covariates(model, batch_of(part), engineered=engineered) for part in (fitting, testing))
    if not engineered:
        centre, spread = left.mean(axis=0), left.std(axis=0)
        left, right = (left - centre) / np.maximum(spread, 1e-6), (right - centre) / np.maximum(spread, 1e-6)
    curves = []
    for endpoint in ENDPOINTS:
        events, times = outcomes(fitting, endpoint)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant column in a fold
            cox = CoxPHSurvivalAnalysis(alpha=alpha).fit(left, Surv.from_arrays(events, times))
        ends = np.minimum(_quarter_ends(), times.max())
        curves.append(np.stack([step(ends) for step in cox.predict_survival_function(right)]))
    return np.stack(curves)


def _covariates(model: IllnessDeath, batch: Batch, *, engineered: bool) -> Curves:
    static, static_mask, sequence, sequence_mask, _ = batch.inputs
    with torch.no_grad():
        if engineered:
            values: Curves = model.engineering(static, static_mask, sequence, sequence_mask).numpy()
            return values
    known = static_mask.numpy() > 0
    raw = np.where(known, static.numpy(), np.nan)
    last = np.where(sequence_mask.numpy()[:, -1] > 0, sequence.numpy()[:, -1], np.nan)
    table = np.concatenate([raw, last], axis=1)
    means = np.nanmean(np.where(np.isnan(table).all(axis=0), 0.0, table), axis=0)
    filled: Curves = np.where(np.isnan(table), means, table).astype(np.float64)
    return filled


def _calibration(endpoint: str, curves: Curves, rows: Sequence[LandmarkRow]) -> Calibration:
    """Kaplan-Meier against the mean forecast at two years, and the slope of a Cox fit on the log-log forecast."""
    events, times = outcomes(rows, endpoint)
    risk = 1.0 - curves[:, _YEAR_2]
    horizon = (_YEAR_2 + 1) * DAYS_PER_QUARTER
    survival = 1.0
    for moment in np.unique(times[events & (times <= horizon)]):
        survival *= 1.0 - (events & (times == moment)).sum() / (times >= moment).sum()
    cloglog = np.log(-np.log(np.clip(1.0 - risk, 1e-6, 1.0 - 1e-6)))[:, None]
    until = Surv.from_arrays(events & (times <= horizon), np.minimum(times, horizon))
    slope = float(CoxPHSurvivalAnalysis().fit(cloglog, until).coef_[0])
    return Calibration(endpoint=endpoint, expected=float(risk.mean()), observed=1.0 - survival, slope=slope)


def _external(endpoint: str, curves: Curves, rows: Sequence[LandmarkRow]) -> tuple[str, float, float, int, int]:
    """Endpoint, C, its standard error by 200 bootstrap samples, rows, events."""
    events, times = outcomes(rows, endpoint)
    risk = 1.0 - curves[:, _YEAR_3]
    draw = np.random.default_rng(SEED)
    resampled = []
    for _ in range(_BOOTSTRAPS):
        chosen = draw.integers(0, len(rows), len(rows))
        resampled.append(concordance_index_censored(events[chosen], times[chosen], risk[chosen])[0])
    concordance = concordance_index_censored(events, times, risk)[0]
    return endpoint, float(concordance), float(np.std(resampled)), len(rows), int(events.sum())


def paired(scores: Sequence[Score], endpoint: str, against: str) -> tuple[float, float]:
    """Mean difference in C to a baseline over the same folds, and its standard error after Nadeau and Bengio (2003)."""
    ours = {
        score.fold: score.concordance
        for score in scores
        if (score.model, score.endpoint) == ("illness-death", endpoint)
    }
    theirs = {score.fold: score.concordance for score in scores if (score.model, score.endpoint) == (against, endpoint)}
    differences = np.array([ours[fold] - theirs[fold] for fold in sorted(ours)])
    correction = 1.0 / len(differences) + 1.0 / (FOLDS - 1)
    return float(differences.mean()), float(math.sqrt(correction * differences.var(ddof=1)))
