"""The teacher: engineered Cox, boosted trees, a forest and the network ensemble as one forecast, and its student.

Each speaks for event-free and for overall survival; their mean is taken of log cumulative hazards. The student is one
hazard network that answers with all three transitions at once, so that one small graph can be shipped instead of trees.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sksurv.ensemble import GradientBoostingSurvivalAnalysis, RandomSurvivalForest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv
from torch import Tensor

from inference.contract import DAYS_PER_QUARTER
from training.fitting import Covariates, Penalty, Schedule, descend
from training.network import FIT_QUARTERS, HazardNetwork, incidences

Curves = NDArray[np.float64]
RIDGE = 300.0
_COHORT_RIDGE = 1.0
_SHARES = {"engineered Cox": 1.0, "boosted trees": 1.0, "forest": 0.5}  # the ensemble speaks with 1
_TAKEN = 0.5
_SURE = 1e-4  # no survival nearer to 0 or 1: its double logarithm would outweigh every other voice
_STUDENT_PENALTY = Penalty(shared=10.0, deviation=10.0, time=20.0, bent=5.0, smoothness=20.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Observed:
    """One endpoint: whether it was seen and after how many days, each (N,); other: (N,), 1 for a second cohort."""

    events: NDArray[np.bool_]
    days: NDArray[np.float64]
    other: NDArray[np.float64]


class ClassicalModels:
    """Cox, boosted trees and forest on the same covariates, for one endpoint; the cohort is a covariate beside them."""

    def __init__(self, values: Tensor, observed: Observed, *, trees: int, seed: int) -> None:
        """trees: of the boosted model; the forest has half as many."""
        self._several = bool(observed.other.any())
        table = self._with_cohort(values, observed.other)
        outcome = Surv.from_arrays(observed.events, observed.days)
        ridge = np.full(table.shape[1], RIDGE)
        if self._several:
            ridge[-1] = _COHORT_RIDGE
        boosted = GradientBoostingSurvivalAnalysis(
            n_estimators=trees,
            learning_rate=0.03,
            max_depth=3,
            subsample=0.5,
            max_features="sqrt",
            min_samples_leaf=10,
            random_state=seed,
        )
        forest = RandomSurvivalForest(
            n_estimators=max(2, trees // 2), min_samples_leaf=10, max_features="sqrt", random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a covariate may be constant in a fold
            self._models = {
                "engineered Cox": CoxPHSurvivalAnalysis(alpha=ridge).fit(table, outcome),
                "boosted trees": boosted.fit(table, outcome),
                "forest": forest.fit(table, outcome),
            }

    def survival(self, values: Tensor) -> dict[str, Curves]:
        """Of rows of the first cohort at the end of each quarter, (N, Q), by model."""
        table = self._with_cohort(values, np.zeros(len(values)))
        ends = np.arange(1, FIT_QUARTERS + 1, dtype=np.float64) * DAYS_PER_QUARTER
        return {name: _at(model, table, ends) for name, model in self._models.items()}

    def _with_cohort(self, values: Tensor, other: NDArray[np.float64]) -> Curves:
        table = values.numpy().astype(np.float64)
        return np.column_stack([table, other]) if self._several else table


def _at(model: CoxPHSurvivalAnalysis, table: Curves, ends: NDArray[np.float64]) -> Curves:
    """A step function is read at its last step before each time; before the first it is 1."""
    steps = np.asarray(model.predict_survival_function(table, return_array=True), dtype=np.float64)
    place = np.searchsorted(model.unique_times_, ends, side="right")
    padded: Curves = np.column_stack([np.ones(len(table)), steps])[:, place]
    return padded


def mean_survival(voices: Mapping[str, Curves], shares: Mapping[str, float] | None = None) -> Curves:
    """Weighted mean on the scale of the log cumulative hazard, (N, Q)."""
    weights = shares or _SHARES
    total = sum(weights[name] for name in voices)
    heights = sum(weights[name] * np.log(-np.log(np.clip(curve, _SURE, 1.0 - _SURE))) for name, curve in voices.items())
    survival: Curves = np.exp(-np.exp(heights / total))
    return survival


def teach(rows: Tensor, network: HazardNetwork, classical: Sequence[ClassicalModels]) -> tuple[Tensor, Tensor]:
    """The teacher's event-free and overall survival, (2, N, Q), and the share of relapse in the first event, (N, Q).

    classical: one for event-free, one for overall survival. Only the network knows the share.
    """
    with torch.no_grad():
        logits = network.training_logits(rows).mean(0)
        recurrence, without, death = incidences(logits)
        share = torch.softmax(logits[:, :2], dim=1)[:, 0]
    ours = (1.0 - recurrence - without, 1.0 - death)
    curves = [
        mean_survival({**models.survival(rows), "network": own.double().numpy()}, {**_SHARES, "network": 1.0})
        for models, own in zip(classical, ours, strict=True)
    ]
    return torch.from_numpy(np.stack(curves)).float(), share


def swapped_rows(covariates: Covariates, count: int, generator: torch.Generator) -> Tensor:
    """The rows and count more, each with every group of findings taken from another row half of the time."""
    values = covariates.values
    first = values[torch.randint(len(values), (count,), generator=generator)]
    second = values[torch.randint(len(values), (count,), generator=generator)]
    taken = (torch.rand(count, len(covariates.groups), generator=generator) < _TAKEN).float() @ covariates.groups
    return torch.cat([values, torch.where(taken > 0.0, second, first)])


def distil(
    rows: Tensor, covariates: Covariates, survival: Tensor, share: Tensor, *, seed: int, schedule: Schedule
) -> HazardNetwork:
    """A student of the teacher's hazards. rows: (N, P), survival and share as `teach` gives them for these rows."""
    generator = torch.Generator().manual_seed(seed)
    network = HazardNetwork(rows.shape[1], 1, generator)
    before = torch.cat([torch.ones_like(survival[..., :1]), survival[..., :-1]], dim=2)
    hazard = (1.0 - survival / before).clamp(1e-6, 1.0 - 1e-6)
    # each row weighs as much as its part of the patients that were observed
    weight = len(covariates.values) / len(rows)

    def loss(logits: Tensor) -> Tensor:
        student = logits[0]
        recurrence, without, death = incidences(student)
        own = torch.stack([1.0 - recurrence - without, 1.0 - death]).clamp(min=1e-6)
        own_before = torch.cat([torch.ones_like(own[..., :1]), own[..., :-1]], dim=2)
        risk = (1.0 - own / own_before).clamp(1e-6, 1.0 - 1e-6)
        apart = -(hazard * risk.log() + (1.0 - hazard) * (1.0 - risk).log()) * before
        own_share = torch.log_softmax(student[:, :2], dim=1)
        mass = before[0] * hazard[0]
        split = -(share * own_share[:, 0] + (1.0 - share) * own_share[:, 1]) * mass
        return weight * (apart.sum() + split.sum())

    lesson = Covariates(values=rows, groups=covariates.groups, absent=covariates.absent)
    return descend(
        network,
        lesson,
        loss=loss,
        further=[],
        penalty=_STUDENT_PENALTY,
        schedule=schedule,
        generator=generator,
    )
