"""How the hazard networks are fitted: full-batch Adam under one cycle, heavy L2, dropout of findings, noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.likelihood import Batch, log_likelihood
from training.network import FIT_QUARTERS, TRANSITIONS, HazardNetwork

_COHORT_PENALTY = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Penalty:
    """L2 weights (halved, as in Cox) on the summed loss. Chosen beforehand by earlier work on this data."""

    shared: float = 300.0
    deviation: float = 800.0
    time: float = 2000.0
    bent: float = 800.0
    smoothness: float = 20.0

    def of(self, network: HazardNetwork) -> Tensor:
        """Summed over the members."""
        steps = network.baseline[:, :, 1:FIT_QUARTERS] - network.baseline[:, :, : FIT_QUARTERS - 1]
        return 0.5 * (
            self.shared * network.shared.square().sum()
            + self.deviation * network.deviation.square().sum()
            + self.time * network.time.square().sum()
            + self.bent * (network.inner.square().sum() + network.outer.square().sum())
            + self.smoothness * steps.square().sum()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """steps of Adam; rate: highest of the one cycle; fractions of hidden units and of findings dropped; noise: sd."""

    steps: int = 200
    rate: float = 0.02
    hidden_dropout: float = 0.4
    finding_dropout: float = 0.1
    noise: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Covariates:
    """values: (N, P). groups: (G, P), what goes together; absent: (P,), a row about which nothing is known.

    rates: (G,), how often a group is masked; None for the schedule's rate of all. still: (P,), 1 where a column is a
    flag that takes no noise; None where none is.
    """

    values: Tensor
    groups: Tensor
    absent: Tensor
    rates: Tensor | None = None
    still: Tensor | None = None

    def disturbed(self, members: int, schedule: Schedule, generator: torch.Generator) -> Tensor:
        """A copy for each member, (M, N, P), with findings masked as the graph would see them masked, and noise."""
        rows = len(self.values)
        rates = schedule.finding_dropout if self.rates is None else self.rates
        dropped = torch.rand(members, rows, len(self.groups), generator=generator) < rates
        gone = (dropped.float() @ self.groups) > 0.0
        noise = schedule.noise * torch.randn(members, rows, self.values.shape[1], generator=generator)
        moved = self.values + (noise if self.still is None else noise * (1.0 - self.still))
        return torch.where(gone, self.absent, moved)


def fit_ensemble(
    covariates: Covariates,
    batch: Batch,
    *,
    members: int,
    resampled: int,
    seed: int,
    penalty: Penalty | None = None,
    schedule: Schedule | None = None,
    build: Callable[[int, torch.Generator], HazardNetwork] | None = None,
) -> HazardNetwork:
    """Networks fitted side by side by likelihood; the last `resampled` under exponential bootstrap weights.

    Cohorts other than 0 have an offset of their own on every transition, which is not kept. build: another network for
    so many members; None for the plain one.
    """
    generator = torch.Generator().manual_seed(seed)
    width = covariates.values.shape[1]
    network = HazardNetwork(width, members, generator) if build is None else build(members, generator)
    weights = torch.ones(members, len(batch))
    weights[members - resampled :] = -torch.log(torch.rand(resampled, len(batch), generator=generator).clamp(min=1e-6))
    offsets = torch.zeros(members, int(batch.cohort.max()) + 1, TRANSITIONS, requires_grad=True)

    def loss(logits: Tensor) -> Tensor:
        own = torch.cat([torch.zeros_like(offsets[:, :1]), offsets[:, 1:]], dim=1)[:, batch.cohort]
        likelihood = log_likelihood(logits + own.unsqueeze(3), batch)
        return -(weights * likelihood).sum() + 0.5 * _COHORT_PENALTY * offsets.square().sum()

    return descend(
        network,
        covariates,
        loss=loss,
        further=[offsets],
        penalty=penalty or Penalty(),
        schedule=schedule or Schedule(),
        generator=generator,
    )


def descend(
    network: HazardNetwork,
    covariates: Covariates,
    *,
    loss: Callable[[Tensor], Tensor],
    further: list[Tensor],
    penalty: Penalty,
    schedule: Schedule,
    generator: torch.Generator,
) -> HazardNetwork:
    """Minimise loss of the training logits, (M, N, 3, Q), plus penalty. further: tensors that are fitted along."""
    optimizer = torch.optim.Adam([*network.parameters(), *further], lr=schedule.rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=schedule.rate, total_steps=schedule.steps + 1)
    torch.manual_seed(int(generator.initial_seed()))  # dropout of hidden units takes no generator
    for _ in range(schedule.steps):
        optimizer.zero_grad()
        rows = covariates.disturbed(network.members, schedule, generator)
        total = loss(network.training_logits(rows, schedule.hidden_dropout)) + penalty.of(network)
        total.backward()
        optimizer.step()
        cycle.step()
    network.extend_baseline()
    network.eval()
    return network
