"""Effects of a treatment from a randomised trial, patient by patient, with their uncertainty; when to abstain.

Contrasts come from trials and their intervals, never from who happened to be treated.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.studies.measures import Floats, Integers, Outcomes
from training.studies.ridge_cox import RidgeCox

CERTAINTY = 0.95  # of benefit, or of harm, before anything is recommended; fixed beforehand
_INTERACTION_SPREAD = 0.3  # prior spread of the effect's change per standard deviation of prognosis, log hazard
_INDEX_ALPHA = 50.0
_ROUNDS, _SMALL_STEP = 25, 1e-8
_NORMAL_95 = 1.959963984540054


class Advice(enum.IntEnum):
    """What a recommender says about one patient."""

    WITHHOLD = -1
    ABSTAIN = 0
    TREAT = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoxPosterior:
    """Normal approximation at the mode: weights, (P,); covariance, (P, P)."""

    weights: Floats
    covariance: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """A published hazard ratio on the log scale, error from its 95 % interval."""

    mean: float
    error: float

    @classmethod
    def published(cls, ratio: float, low: float, high: float) -> LogRatio:
        """From a ratio and its 95 % interval."""
        return cls(mean=math.log(ratio), error=(math.log(high) - math.log(low)) / (2.0 * _NORMAL_95))

    def draws(self, count: int, seed: int) -> Floats:
        """Hazard ratios, (count,)."""
        return np.exp(np.random.default_rng(seed).normal(self.mean, self.error, count))


def fit_cox(columns: Floats, outcomes: Outcomes, precision: Floats) -> CoxPosterior:
    """Cox regression with a normal prior around zero, by Newton's method, Breslow's ties.

    columns: (N, P); precision: (P,), 0 = no prior. Written here for its covariance, which scikit-survival lacks.
    """
    order = np.argsort(-outcomes.years, kind="stable")
    covariates, years, died = columns[order], outcomes.years[order], outcomes.died[order]
    covariates = covariates - covariates.mean(axis=0)
    last = np.searchsorted(-years, -years, side="right") - 1  # everyone tied in time is at risk together
    weights, information = np.zeros(columns.shape[1]), np.diag(precision)
    for _ in range(_ROUNDS):
        relative = np.exp(covariates @ weights)
        total = np.cumsum(relative)[last][died]
        first = np.cumsum(relative[:, None] * covariates, axis=0)[last][died] / total[:, None]
        products = relative[:, None, None] * covariates[:, :, None] * covariates[:, None, :]
        second = np.cumsum(products, axis=0)[last][died] / total[:, None, None]
        score = (covariates[died] - first).sum(axis=0) - precision * weights
        information = (second - first[:, :, None] * first[:, None, :]).sum(axis=0) + np.diag(precision)
        step = np.linalg.solve(information, score)
        weights = weights + step
        if np.abs(step).max() < _SMALL_STEP:
            break
    return CoxPosterior(weights=weights, covariance=np.asarray(np.linalg.inv(information), dtype=np.float64))


def hazard_ratio(outcomes: Outcomes, treated: NDArray[np.bool_], adjust: Floats | None = None) -> LogRatio:
    """The treated against the others; adjust: further covariates, (N, P)."""
    columns = treated.astype(np.float64)[:, None] if adjust is None else np.column_stack([treated, adjust])
    fitted = fit_cox(columns, outcomes, np.zeros(columns.shape[1]))
    return LogRatio(mean=float(fitted.weights[0]), error=float(math.sqrt(fitted.covariance[0, 0])))


def shown(ratio: LogRatio) -> str:
    """`0.81 (0.68-0.97)`."""
    low, high = (math.exp(ratio.mean + sign * _NORMAL_95 * ratio.error) for sign in (-1.0, 1.0))
    return f"{math.exp(ratio.mean):.2f} ({low:.2f}-{high:.2f})"


def advise(probability_of_benefit: Floats, certainty: float = CERTAINTY) -> NDArray[np.int64]:
    """An Advice per patient, (N,): act only where benefit, or harm, is at least so probable (0.5: never abstain)."""
    treat = probability_of_benefit >= certainty
    withhold = probability_of_benefit <= 1.0 - certainty
    return np.where(treat, Advice.TREAT, np.where(withhold, Advice.WITHHOLD, Advice.ABSTAIN)).astype(np.int64)


def advise_from_trial(
    table: Floats, treated: NDArray[np.bool_], outcomes: Outcomes, train: Integers, test: Integers
) -> NDArray[np.int64]:
    """Advice for the test rows of a randomised trial from its training rows: the arm, and its change with prognosis."""
    training = outcomes.at(train)
    prognosis = RidgeCox(table[train], training, _INDEX_ALPHA)
    index = prognosis.score(table[train])
    centre, spread = float(index.mean()), float(index.std()) or 1.0
    scaled, arm = (index - centre) / spread, treated[train].astype(np.float64) - float(treated[train].mean())
    fitted = fit_cox(
        np.column_stack([arm, scaled, arm * scaled]),
        training,
        np.array([0.0, 0.0, _INTERACTION_SPREAD**-2]),
    )
    place = (prognosis.score(table[test]) - centre) / spread
    design = np.column_stack([np.ones(len(test)), np.zeros(len(test)), place])
    mean = design @ fitted.weights
    error = np.sqrt(np.einsum("np,pq,nq->n", design, fitted.covariance, design))
    return advise(_normal_below(-mean / error))


def _normal_below(value: Floats) -> Floats:
    return np.array([0.5 * math.erfc(-one / math.sqrt(2.0)) for one in value])
