"""Net N for one event: an ensemble of discrete-time hazard networks, heavily regularised.

logit h(t | x) = baseline(t) + x w + (t - centre) x v + MLP(x). Source: reference experiment on HANCOCK and RADCURE,
whose weights are kept as they were: what is chosen beforehand cannot be chosen by the test.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.studies.measures import Floats, Outcomes
from training.studies.ridge_cox import Scaling

_FIRST_LOGIT = -4.0
_HIDDEN = 32
_LARGEST_RATE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSettings:
    """L2 weights on the summed negative log-likelihood; the grid; the ensemble."""

    interval_years: float = 0.25
    intervals: int = 24
    members: int = 5
    steps: int = 180
    linear: float = 300.0
    time: float = 300.0
    perceptron: float = 400.0
    smoothness: float = 20.0
    dropout: float = 0.4
    input_dropout: float = 0.1
    input_noise: float = 0.0
    seed: int = 20260101


class HazardNet:
    """Fitted on construction. table: (N, P) with NaN for missing. Two runs on one machine agree to the last bit."""

    def __init__(self, table: Floats, outcomes: Outcomes, settings: NetSettings) -> None:
        self._settings = settings
        self._scaling = Scaling.of(table)
        covariates = torch.from_numpy(self._scaling.apply(table)).float()
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self._weights = _Weights(covariates.shape[1], settings)
            _fit(self._weights, covariates, cells(outcomes, settings), settings)

    def survival(self, table: Floats) -> Floats:
        """Probability to outlive the end of each interval, (N, Q): the mean over the members."""
        with torch.no_grad():
            logits = self._weights.logits(torch.from_numpy(self._scaling.apply(table)).float(), training=False)
            curves = torch.exp(-torch.nn.functional.softplus(logits).cumsum(dim=2)).mean(dim=0)
        values: Floats = curves.double().numpy()
        return values

    def risk(self, table: Floats, horizon: float) -> Floats:
        """Probability to die by the horizon (years, within the grid), (N,); linear between the ends of intervals."""
        curves = self.survival(table)
        place = horizon / self._settings.interval_years
        curves = np.column_stack([np.ones(len(curves)), curves])
        below = min(int(place), curves.shape[1] - 2)
        part = place - below
        return np.asarray(1.0 - (curves[:, below] * (1.0 - part) + curves[:, below + 1] * part), dtype=np.float64)


class _Weights:
    """Parameters of all members at once; the first axis is the member."""

    def __init__(self, width: int, settings: NetSettings) -> None:
        members, hidden = settings.members, _HIDDEN
        self.baseline = torch.full((members, settings.intervals), _FIRST_LOGIT, requires_grad=True)
        self.linear = torch.zeros(members, width, requires_grad=True)
        self.time = torch.zeros(members, width, requires_grad=True)
        self.first = (torch.randn(members, width, hidden) / width**0.5).requires_grad_()
        self.offset = torch.zeros(members, 1, hidden, requires_grad=True)
        self.second = (torch.randn(members, hidden) / hidden**0.5 * 0.1).requires_grad_()
        self._settings = settings
        steps = torch.arange(settings.intervals, dtype=torch.float32)
        self._clock = steps / settings.intervals - 0.5

    def parameters(self) -> list[Tensor]:
        """What is fitted."""
        return [self.baseline, self.linear, self.time, self.first, self.offset, self.second]

    def logits(self, covariates: Tensor, *, training: bool) -> Tensor:
        """(members, N, Q) from z-scores, (N, P)."""
        settings, dropout = self._settings, torch.nn.functional.dropout
        inputs = covariates.unsqueeze(0).expand(settings.members, -1, -1)
        if training:
            inputs = dropout(inputs, settings.input_dropout)
            if settings.input_noise > 0.0:
                inputs = inputs + settings.input_noise * torch.randn_like(inputs)
        hidden = torch.nn.functional.silu(inputs @ self.first + self.offset)
        hidden = dropout(hidden, settings.dropout, training=training)
        level = torch.einsum("mnp,mp->mn", inputs, self.linear) + torch.einsum("mnh,mh->mn", hidden, self.second)
        tilt = torch.einsum("mnp,mp->mn", inputs, self.time)
        return self.baseline.unsqueeze(1) + level.unsqueeze(2) + tilt.unsqueeze(2) * self._clock


def cells(outcomes: Outcomes, settings: NetSettings) -> tuple[Tensor, Tensor]:
    """Exposure (part of each interval at risk) and events, each (N, Q): a censored cell counts for what was seen."""
    edges = np.arange(settings.intervals + 1) * settings.interval_years
    inside = np.clip(outcomes.years[:, None], edges[:-1], edges[1:]) - edges[:-1]
    events = np.zeros((len(outcomes.years), settings.intervals))
    place = np.ceil(outcomes.years / settings.interval_years).astype(np.int64) - 1  # a death at an edge ends its cell
    rows = np.flatnonzero(outcomes.died & (place < settings.intervals))
    events[rows, place[rows]] = 1.0
    return torch.from_numpy(inside / settings.interval_years).float(), torch.from_numpy(events).float()


def _fit(weights: _Weights, covariates: Tensor, seen: tuple[Tensor, Tensor], settings: NetSettings) -> None:
    optimizer = torch.optim.Adam(weights.parameters(), lr=_LARGEST_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_LARGEST_RATE, total_steps=settings.steps)
    rows = torch.ones(settings.members, len(covariates), 1)
    rows[1::2] = torch.empty_like(rows[1::2]).exponential_()  # every other member sees a Bayesian bootstrap
    for _ in range(settings.steps):
        optimizer.zero_grad()
        loss = _loss(weights, weights.logits(covariates, training=True), seen, rows)
        loss.backward()
        optimizer.step()
        schedule.step()


def _loss(weights: _Weights, logits: Tensor, seen: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    """Penalised negative log-likelihood, summed over members, so that none pulls at another; per row on average."""
    exposure, events = seen
    settings = weights._settings
    likelihood = events * torch.nn.functional.logsigmoid(logits) - (
        (1.0 - events) * exposure * torch.nn.functional.softplus(logits)
    )
    steps = weights.baseline[:, 1:] - weights.baseline[:, :-1]
    penalty = (
        settings.linear * weights.linear.square().sum()
        + settings.time * weights.time.square().sum()
        + settings.perceptron * (weights.first.square().sum() + weights.second.square().sum())
        + settings.smoothness * steps.square().sum()
    )
    return (0.5 * penalty - (likelihood * rows).sum()) / exposure.shape[0]
