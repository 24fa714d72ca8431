"""The whole recipe of the shipped model, once: ensemble, teacher, student, calibration by inner folds, typicality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from inference.contract import ModelContract
from training.cohorts.landmarks import LandmarkRow
from training.engineering import Engineering
from training.fitting import Covariates, Schedule, fit_ensemble
from training.likelihood import Batch, batch_of, joined, log_likelihood
from training.network import BASELINE_QUARTERS, FIT_QUARTERS, TRANSITIONS, IllnessDeath
from training.outcomes import ENDPOINTS, outcomes
from training.teacher import ClassicalModels, Observed, distil, swapped_rows, teach

_TRUST_IN_ONE = 20.0  # prior events' worth of belief that a scale is one
_RIDGE_OF_OFFSET = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work one fit is. Half of the members see bootstrap weights; swapped: rows made up for the student."""

    members: int = 10
    steps: int = 200
    trees: int = 400
    swapped: int = 4000
    inner_folds: int = 3

    @property
    def inner(self) -> Effort:
        """Of the fits that only serve calibration: how far forecasts are drawn together hardly depends on it."""
        return replace(self, members=min(self.members, 4), swapped=min(self.swapped, 1000))


# makes one of several fits, or brings back what it kept under the name
Keep: TypeAlias = Callable[[str, Callable[[], IllnessDeath]], IllnessDeath]
QUICK = Effort(members=4, steps=60, trees=20, swapped=200, inner_folds=2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """What one fit leaves behind; classical: event-free and overall survival, the teacher's other voices."""

    model: IllnessDeath
    classical: tuple[ClassicalModels, ClassicalModels]


def fit(
    rows: Sequence[LandmarkRow],
    others: Sequence[LandmarkRow],
    contract: ModelContract,
    effort: Effort,
    *,
    seed: int,
    calibrate: bool = True,
) -> Fitted:
    """Fit on rows, with a second cohort beside them under a baseline of its own; calibrated on rows alone."""
    fitted = _fit_once(rows, others, contract, effort, seed=seed)
    set_typicality(fitted.model, rows)
    if calibrate:
        _calibrate(fitted.model, rows, others, contract, effort, seed=seed)
    return fitted


def fit_model(
    rows: Sequence[LandmarkRow],
    others: Sequence[LandmarkRow],
    contract: ModelContract,
    effort: Effort,
    *,
    seed: int,
    keep: Keep,
) -> IllnessDeath:
    """The model of `fit`, calibrated, each of its fits through keep."""
    model = keep("all patients", partial(_fitted, rows, others, contract, effort, seed=seed))
    set_typicality(model, rows)
    _calibrate(model, rows, others, contract, effort, seed=seed, keep=keep)
    return model


def batch_with(rows: Sequence[LandmarkRow], others: Sequence[LandmarkRow]) -> Batch:
    """Both cohorts, the second under index 1."""
    return joined(batch_of(rows), batch_of(others, cohort=1)) if others else batch_of(rows)


def engineered(contract: ModelContract, batch: Batch) -> tuple[Engineering, Covariates]:
    """Engineering fitted on the rows, and their covariates."""
    engineering = Engineering(contract)
    engineering.fit(*batch.inputs[:4])
    with torch.no_grad():
        values = engineering(*batch.inputs[:4])
        absent = engineering(*(torch.zeros_like(tensor[:1]) for tensor in batch.inputs[:4]))[0]
    return engineering, Covariates(values=values, groups=engineering.groups(), absent=absent)


def _fit_once(
    rows: Sequence[LandmarkRow], others: Sequence[LandmarkRow], contract: ModelContract, effort: Effort, *, seed: int
) -> Fitted:
    batch = batch_with(rows, others)
    engineering, covariates = engineered(contract, batch)
    resampled = effort.members // 2
    schedule = Schedule(steps=effort.steps)
    ensemble = fit_ensemble(
        covariates, batch, members=effort.members, resampled=resampled, seed=seed, schedule=schedule
    )
    everyone = [*rows, *others]
    other = batch.cohort.numpy().astype(np.float64)
    voices = []
    for endpoint in ENDPOINTS:
        events, days = outcomes(everyone, endpoint)
        observed = Observed(events=events, days=days, other=other)
        voices.append(ClassicalModels(covariates.values, observed, trees=effort.trees, seed=seed))
    first, second = voices
    lesson = swapped_rows(covariates, effort.swapped, torch.Generator().manual_seed(seed))
    survival, share = teach(lesson, ensemble, (first, second))
    student = distil(
        lesson, covariates, survival, share, seed=seed, schedule=replace(schedule, hidden_dropout=0.1, noise=0.0)
    )
    model = IllnessDeath(contract, engineering, ensemble, student=student, resampled=resampled)
    return Fitted(model=model.eval(), classical=(first, second))


def _fitted(
    rows: Sequence[LandmarkRow], others: Sequence[LandmarkRow], contract: ModelContract, effort: Effort, *, seed: int
) -> IllnessDeath:
    return _fit_once(rows, others, contract, effort, seed=seed).model


def fitted_logits(model: IllnessDeath, batch: Batch) -> Tensor:
    """Uncalibrated logits of the fitted quarters, counted from surgery as in the fit, (N, 3, Q)."""
    return _logits(model, batch, FIT_QUARTERS)


def _logits(model: IllnessDeath, batch: Batch, quarters: int) -> Tensor:
    with torch.no_grad():
        covariates = model.engineering(*batch.inputs[:4])
        place = torch.arange(quarters, dtype=torch.float32).expand(len(batch), -1)
        return model.combined(covariates, place)[0]


# ---- calibration


def _calibrate(
    model: IllnessDeath,
    rows: Sequence[LandmarkRow],
    others: Sequence[LandmarkRow],
    contract: ModelContract,
    effort: Effort,
    *,
    seed: int,
    keep: Keep = lambda _, make: make(),
) -> None:
    """Scale and offset of each transition by the likelihood of held-out rows; the centre is that of all rows."""
    batch = batch_of(rows)
    around = torch.zeros(len(rows), TRANSITIONS, FIT_QUARTERS)
    centre = torch.zeros_like(around)
    order = np.random.default_rng(seed).permutation(len(rows))
    for number, held in enumerate(np.array_split(order, effort.inner_folds), start=1):
        kept = np.setdiff1d(order, held)
        inner = keep(
            f"calibration fold {number}",
            partial(_fitted, [rows[i] for i in kept], others, contract, effort.inner, seed=seed),
        )
        middle = fitted_logits(inner, batch.part(torch.from_numpy(kept))).mean(0)
        chosen = torch.from_numpy(held)
        around[chosen] = fitted_logits(inner, batch.part(chosen)) - middle
        centre[chosen] = middle
    scale, offset = scale_and_offset(around, centre, batch)
    recalibration = model.recalibration
    recalibration.centre = _logits(model, batch, BASELINE_QUARTERS).mean(0)
    recalibration.scale, recalibration.offset = scale, offset


def scale_and_offset(
    around: Tensor, centre: Tensor, batch: Batch, *, scaled: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Of each transition, (3,); a scale is pulled towards one as if by twenty events.

    around: logits less their centre, both (N, 3, Q). scaled: (3,), whether a transition has a scale other than one.
    """
    scale = torch.ones(TRANSITIONS, requires_grad=True)
    offset = torch.zeros(TRANSITIONS, requires_grad=True)
    optimizer = torch.optim.LBFGS([scale, offset], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        used = scale if scaled is None else torch.where(scaled, scale, 1.0)
        logits = centre + used[:, None] * around + offset[:, None]
        prior = 0.5 * (_TRUST_IN_ONE * (scale - 1.0).square().sum() + _RIDGE_OF_OFFSET * offset.square().sum())
        total = prior - log_likelihood(logits, batch).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return scale.detach(), offset.detach()


# ---- typicality


def set_typicality(model: IllnessDeath, rows: Sequence[LandmarkRow]) -> None:
    """Distances of each fifth of the rows from a centre and covariance fitted on the others become the knots."""
    with torch.no_grad():
        values = model.engineering(*batch_of(rows).inputs[:4]).numpy().astype(np.float64)
    distances = np.zeros(len(values))
    for held in np.array_split(np.arange(len(values)), 5):
        centre, precision = _centre(np.delete(values, held, axis=0))
        apart = values[held] - centre
        distances[held] = np.sqrt(((apart @ precision) * apart).sum(axis=1))
    typicality = model.typicality
    centre, precision = _centre(values)
    typicality.centre, typicality.precision = torch.from_numpy(centre).float(), torch.from_numpy(precision).float()
    knots = np.quantile(distances, np.linspace(0.0, 1.0, len(typicality.knots)))
    typicality.knots = torch.from_numpy(knots).float()


def _centre(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fitted = LedoitWolf().fit(values)
    return fitted.location_, fitted.precision_
