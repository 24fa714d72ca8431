"""Landmark rows as tensors, and the likelihood of the illness-death model on quarterly cells.

Cells are counted from the landmark, which lies days after surgery in every training row; the model's clock counts from
surgery. The difference, a tenth of a quarter, is left to the baseline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from inference.contract import DAYS_PER_QUARTER
from training.cohorts.landmarks import LandmarkRow
from training.network import FIT_QUARTERS, TRANSITIONS

Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """N rows, float32.

    inputs: as the graph takes them. exposure: (N, 3, Q), the part of each quarter a row was at risk of a transition;
    events: (N, 3, Q), whether it happened there. cohort: (N,), index; 0 is the cohort whose baseline is shipped.
    """

    inputs: Inputs
    exposure: Tensor
    events: Tensor
    cohort: Tensor

    def __len__(self) -> int:
        return len(self.cohort)

    def part(self, chosen: Tensor) -> Batch:
        """Some rows, by index or mask."""
        static, static_mask, sequence, sequence_mask, years = (tensor[chosen] for tensor in self.inputs)
        return Batch(
            inputs=(static, static_mask, sequence, sequence_mask, years),
            exposure=self.exposure[chosen],
            events=self.events[chosen],
            cohort=self.cohort[chosen],
        )


def batch_of(rows: Sequence[LandmarkRow], cohort: int = 0) -> Batch:
    """Stack rows."""
    static, static_mask, sequence, sequence_mask = (
        torch.from_numpy(np.stack([getattr(row.model_input, name) for row in rows]))
        for name in ("static", "static_mask", "sequence", "sequence_mask")
    )
    years = torch.tensor([[row.model_input.years_since_surgery] for row in rows], dtype=torch.float32)
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
        inputs=(static, static_mask, sequence, sequence_mask, years),
        exposure=torch.from_numpy(exposure).float(),
        events=torch.from_numpy(events).float(),
        cohort=torch.full((len(rows),), cohort, dtype=torch.long),
    )


def joined(*batches: Batch) -> Batch:
    """Several cohorts as one batch."""
    static, static_mask, sequence, sequence_mask, years = (
        torch.cat(parts) for parts in zip(*(batch.inputs for batch in batches), strict=True)
    )
    return replace(
        batches[0],
        inputs=(static, static_mask, sequence, sequence_mask, years),
        exposure=torch.cat([batch.exposure for batch in batches]),
        events=torch.cat([batch.events for batch in batches]),
        cohort=torch.cat([batch.cohort for batch in batches]),
    )


def log_likelihood(logits: Tensor, batch: Batch) -> Tensor:
    """Of every row, (..., N). logits: (..., N, 3, Q); the censored count for the part of the quarter they were seen."""
    first, second, third = logits[..., 0, :], logits[..., 1, :], logits[..., 2, :]
    stay = -torch.log1p(first.exp() + second.exp())
    to_illness, to_death, after = (batch.events[:, place] for place in range(TRANSITIONS))
    cells = (
        to_illness * (first + stay)
        + to_death * (second + stay)
        + (1.0 - to_illness - to_death) * batch.exposure[:, 0] * stay
        + after * torch.nn.functional.logsigmoid(third)
        + (1.0 - after) * batch.exposure[:, 2] * torch.nn.functional.logsigmoid(-third)
    )
    return cells.sum(-1)


def _occupy(cells: np.ndarray, start_days: float, end_days: float) -> None:
    """The part of each quarter between two moments."""
    edges = np.arange(FIT_QUARTERS + 1) * DAYS_PER_QUARTER
    cells += (np.clip(end_days, edges[:-1], edges[1:]) - np.clip(start_days, edges[:-1], edges[1:])) / DAYS_PER_QUARTER


def _mark(cells: np.ndarray, days: float) -> None:
    quarter = int(days / DAYS_PER_QUARTER)
    if quarter < FIT_QUARTERS:
        cells[quarter] = 1.0
