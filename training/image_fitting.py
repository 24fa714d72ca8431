"""How the image branch is fitted: the encoder end to end by likelihood, then the hazard networks on its embeddings.

The encoder learns under one score for each patient that moves the hazard of recurrence, and nothing else: under the
fused network, with findings, gate and three transitions, it learned the noise of the training patients first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inference.contract import ImageInput, ModelContract
from training.fitting import Covariates, Penalty, Schedule, fit_ensemble
from training.image_network import FusedHazardNetwork, ImageEncoder, MultimodalIllnessDeath
from training.likelihood import Batch, batch_of, log_likelihood
from training.network import BASELINE_QUARTERS, FIT_QUARTERS, TRANSITIONS
from training.recipe import engineered, scale_and_offset, set_typicality
from training.simulated_patients import SimulatedPatients

IMAGE_DROPOUT = 0.3
_ROWS_AT_ONCE = 32
_PENALTY = Penalty(shared=20.0, deviation=60.0, time=200.0, bent=60.0, smoothness=20.0)
_FLIPPED = 0.5
_SPREAD, _SMALLEST_VARIANCE = 1.0, 1e-4
_FIRST_LOGIT = -3.5  # of every hazard, where the fit of an encoder starts
_RECURRENCE_ALONE = torch.tensor([1.0, 0.0, 0.0]).unsqueeze(1)  # of the three transitions
_LEFT = -1  # axis of the crop along which a body mirrors itself


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageEffort:
    """epochs: of the encoder, rate: its highest. members, steps: of the hazard networks; half see bootstrap weights."""

    epochs: int = 14
    rate: float = 4e-3
    members: int = 6
    steps: int = 200


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedImageModel:
    """Both graphs."""

    encoder: ImageEncoder
    risk: MultimodalIllnessDeath

    def embeddings(self, crops: Tensor) -> Tensor:
        """Of any number of crops, (N, 1, slices, rows, columns): (N, E)."""
        return embed(self.encoder, crops)


def fit_image_model(
    training: SimulatedPatients,
    holdout: SimulatedPatients,
    contract: ModelContract,
    effort: ImageEffort,
    *,
    seed: int,
    say: Callable[[str], None],
) -> FittedImageModel:
    """Fit on training, calibrate by holdout. Raises ValueError for a contract without an image."""
    if contract.image is None:
        raise ValueError("the contract asks for no image")
    batch = batch_of(training.rows)
    engineering, findings = engineered(contract, batch)
    encoder = _fit_encoder(training.crops, batch, contract.image, effort, seed=seed, say=say)
    embeddings = encoder.standardise(embed(encoder, training.crops))
    resampled = effort.members // 2
    width, length = findings.values.shape[1], contract.image.embedding
    ensemble = fit_ensemble(
        with_image(findings, embeddings),
        batch,
        members=effort.members,
        resampled=resampled,
        seed=seed,
        penalty=_PENALTY,
        schedule=Schedule(steps=effort.steps),
        build=lambda members, generator: FusedHazardNetwork(width, length, members, generator),
    )
    if not isinstance(ensemble, FusedHazardNetwork):
        raise TypeError("another network was fitted than was built")
    risk = MultimodalIllnessDeath(contract, engineering, ensemble, resampled=resampled)
    set_typicality(risk, training.rows)
    fitted = FittedImageModel(encoder=encoder.eval(), risk=risk.eval())
    _calibrate(fitted, holdout, seed=seed)
    return fitted


def with_image(findings: Covariates, embeddings: Tensor) -> Covariates:
    """Findings, embedding, and a flag that there is one; image and flag go together, three in ten times.

    embeddings: (N, E).
    """
    rows, length = embeddings.shape
    values = torch.cat([findings.values, embeddings, torch.ones(rows, 1)], dim=1)
    groups, width = findings.groups, findings.values.shape[1]
    image = torch.cat([torch.zeros(1, width), torch.ones(1, length + 1)], dim=1)
    rates = torch.full((len(groups) + 1,), Schedule().finding_dropout)
    rates[-1] = IMAGE_DROPOUT
    still = torch.zeros(width + length + 1)
    still[-1] = 1.0
    return Covariates(
        values=values,
        groups=torch.cat([torch.cat([groups, torch.zeros(len(groups), length + 1)], dim=1), image]),
        absent=torch.cat([findings.absent, torch.zeros(length + 1)]),
        rates=rates,
        still=still,
    )


def embed(encoder: ImageEncoder, crops: Tensor) -> Tensor:
    """(N, E), a few crops at a time."""
    with torch.no_grad():
        return torch.cat([encoder(part) for part in crops.split(_ROWS_AT_ONCE)])


def _fit_encoder(
    crops: Tensor, batch: Batch, image: ImageInput, effort: ImageEffort, *, seed: int, say: Callable[[str], None]
) -> ImageEncoder:
    """End to end by the likelihood of the course; mirrored half of the time."""
    torch.manual_seed(seed)  # layers of torch take no generator
    generator = torch.Generator().manual_seed(seed)
    encoder, score = ImageEncoder(image), nn.Linear(image.embedding, 1)
    baseline = nn.Parameter(torch.full((TRANSITIONS, FIT_QUARTERS), _FIRST_LOGIT))
    optimizer = torch.optim.Adam([*encoder.parameters(), *score.parameters(), baseline], lr=effort.rate)
    batches = -(-len(crops) // _ROWS_AT_ONCE)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=effort.rate, total_steps=effort.epochs * batches + 1)
    for epoch in range(effort.epochs):
        total = 0.0
        for chosen in torch.randperm(len(crops), generator=generator).split(_ROWS_AT_ONCE):
            optimizer.zero_grad()
            embeddings = encoder(_mirrored(crops[chosen], generator))
            moved = score(embeddings).unsqueeze(2) * _RECURRENCE_ALONE
            likelihood = log_likelihood(baseline + moved, batch.part(chosen)).sum()
            (_SPREAD * _too_narrow(embeddings) - likelihood / len(chosen)).backward()
            optimizer.step()
            cycle.step()
            total -= float(likelihood.detach())
        say(f"encoder, epoch {epoch + 1} of {effort.epochs}: {total / len(crops):.4f}")
    encoder.eval()
    return encoder


def _too_narrow(embeddings: Tensor) -> Tensor:
    """How far the entries vary less than by one over these crops: a narrow entry is rounding once it is z-scored.

    Source: the variance term of VICReg, Bardes, Ponce, LeCun 2022.
    """
    return (1.0 - (embeddings.var(0) + _SMALLEST_VARIANCE).sqrt()).clamp(min=0.0).square().mean()


def _mirrored(crops: Tensor, generator: torch.Generator) -> Tensor:
    turned = torch.rand(len(crops), generator=generator) < _FLIPPED
    return torch.where(turned[:, None, None, None, None], crops.flip(_LEFT), crops)


def _calibrate(fitted: FittedImageModel, holdout: SimulatedPatients, *, seed: int) -> None:
    """Scale and offset by patients the encoder never saw, three in ten of them as if they had no image.

    An encoder is surer of patients it was trained on than of others: their likelihood would not show it.
    """
    batch = batch_of(holdout.rows)
    engineering = fitted.risk.engineering
    with torch.no_grad():
        values = engineering(*batch.inputs[:4])
        present = (torch.rand(len(values), 1, generator=torch.Generator().manual_seed(seed)) >= IMAGE_DROPOUT).float()
        rows = torch.cat([values, fitted.embeddings(holdout.crops), present], dim=1)
        place = torch.arange(BASELINE_QUARTERS, dtype=torch.float32).expand(len(rows), -1)
        logits = fitted.risk.combined(rows, place)[0]
    centre = logits.mean(0)
    around = (logits - centre)[:, :, :FIT_QUARTERS]
    expanded = centre[:, :FIT_QUARTERS].expand_as(around)
    recalibration = fitted.risk.recalibration
    recalibration.centre = centre
    recalibration.scale, recalibration.offset = scale_and_offset(around, expanded, batch)
