"""Landmark rows as tensors, and the penalised likelihood of the illness-death model on quarterly cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.contract import DAYS_PER_QUARTER
from training.cohorts.landmarks import LandmarkRow
from training.network import TRANSITIONS, IllnessDeath

FIT_QUARTERS = 24  # six years; beyond, too few are at risk to say anything


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """N rows, float64.

    inputs: as the graph takes them. exposure: (N, 3, Q), the part of each quarter a row was at risk of a transition;
    events: (N, 3, Q), whether it happened there. cohort: (N,), index; 0 is the cohort whose baseline is shipped.
    """

    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
    exposure: Tensor
    events: Tensor
    cohort: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """L2 weights on the summed negative log-likelihood, chosen beforehand from earlier work on this data, not tuned."""

    shared: float = 300.0
    deviation: float = 800.0
    smoothness: float = 20.0
    cohort: float = 1.0


def batch_of(rows: Sequence[LandmarkRow], cohort: int = 0) -> Batch:
    """Stack rows in float64."""
    stacked = [
        np.stack([getattr(row.model_input, name) for row in rows]).astype(np.float64)
        for name in ("static", "static_mask", "sequence", "sequence_mask")
    ]
    years = np.array([[row.model_input.years_since_surgery] for row in rows])
    exposure = np.zeros((len(rows), TRANSITIONS, FIT_QUARTERS))
    events = np.zeros_like(exposure)
    for index, row in enumerate(rows):
        first = row.illness_days if row.illness_days is not None else row.last_days
        _occupy(exposure[index, 0], 0.0, first)
        exposure[index, 1] = exposure[index, 0]
        if row.illness_days is not None:
            _mark(events[index, 0], row.illness_days)
            _occupy(exposure[index, 2], row.illness_days, row.last_days)
        if row.died:
            _mark(events[index, 1 if row.illness_days is None else 2], row.last_days)
    return Batch(
        inputs=(*(torch.from_numpy(array) for array in stacked), torch.from_numpy(years)),
        exposure=torch.from_numpy(exposure),
        events=torch.from_numpy(events),
        cohort=torch.full((len(rows),), cohort, dtype=torch.long),
    )


def joined(batches: Sequence[Batch]) -> Batch:
    """Several cohorts as one batch."""
    return Batch(
        inputs=tuple(torch.cat(parts) for parts in zip(*(batch.inputs for batch in batches), strict=True)),
        exposure=torch.cat([batch.exposure for batch in batches]),
        events=torch.cat([batch.events for batch in batches]),
        cohort=torch.cat([batch.cohort for batch in batches]),
    )


def fit_model(model: IllnessDeath, batch: Batch, penalty: Penalty, steps: int = 60) -> IllnessDeath:
    """Fit in place by L-BFGS in float64: convex enough that two runs agree to the last bit on one machine."""
    model.double()
    model.engineering.fit(*batch.inputs[:4])
    cohorts = int(batch.cohort.max()) + 1
    offsets = torch.zeros(cohorts, TRANSITIONS, dtype=torch.float64, requires_grad=True)
    parameters = [*model.parameters(), offsets]
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, tolerance_grad=1e-7, line_search_fn="strong_wolfe")
    covariates = model.engineering(*batch.inputs[:4])

    def closure() -> Tensor:
        optimizer.zero_grad()
        free = torch.cat([torch.zeros(1, TRANSITIONS, dtype=torch.float64), offsets[1:]])
        loss = _loss(model, covariates, batch, free, penalty)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    with torch.no_grad():
        model.baseline[:, FIT_QUARTERS:] = model.baseline[:, FIT_QUARTERS - 1 : FIT_QUARTERS]
    return model


def _loss(model: IllnessDeath, covariates: Tensor, batch: Batch, offsets: Tensor, penalty: Penalty) -> Tensor:
    predictors = model.linear(covariates) + offsets[batch.cohort]
    logits = model.baseline[:, :FIT_QUARTERS].unsqueeze(0) + predictors.unsqueeze(2)
    stay = -torch.log1p(logits[:, 0].exp() + logits[:, 1].exp())
    happened = batch.events[:, 0] + batch.events[:, 1]
    likelihood = (
        (batch.events[:, 0] * (logits[:, 0] + stay)).sum()
        + (batch.events[:, 1] * (logits[:, 1] + stay)).sum()
        + ((1.0 - happened) * batch.exposure[:, 0] * stay).sum()
        + (batch.events[:, 2] * torch.nn.functional.logsigmoid(logits[:, 2])).sum()
        + ((1.0 - batch.events[:, 2]) * batch.exposure[:, 2] * torch.nn.functional.logsigmoid(-logits[:, 2])).sum()
    )
    steps = model.baseline[:, 1:FIT_QUARTERS] - model.baseline[:, : FIT_QUARTERS - 1]
    return (
        -likelihood
        + 0.5 * penalty.shared * model.shared.square().sum()
        + 0.5 * penalty.deviation * model.deviation.square().sum()
        + 0.5 * penalty.smoothness * steps.square().sum()
        + 0.5 * penalty.cohort * offsets.square().sum()
    )


def _occupy(cells: np.ndarray, start_days: float, end_days: float) -> None:
    """The part of each quarter between two moments."""
    edges = np.arange(FIT_QUARTERS + 1) * DAYS_PER_QUARTER
    cells += (np.clip(end_days, edges[:-1], edges[1:]) - np.clip(start_days, edges[:-1], edges[1:])) / DAYS_PER_QUARTER


def _mark(cells: np.ndarray, days: float) -> None:
    quarter = int(days / DAYS_PER_QUARTER)
    if quarter < FIT_QUARTERS:
        cells[quarter] = 1.0
