"""The illness-death model in discrete time: penalised hazard networks, and the graph that is shipped.

Three hazards by quarter: disease-free to recurrence (h01) and to death (h02), and from recurrence to death (h12).
Recurrence, death without recurrence and death follow from them, so that they can never contradict each other.
Every hazard is a function of the covariates and of the time since surgery alone, and networks are averaged on the
logits of the hazards, not on curves: so a later landmark without news is the conditional curve, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference.contract import ModelContract
from training.engineering import Engineering

TRANSITIONS = 3
FIT_QUARTERS = 24  # six years; beyond, too few are at risk to say anything
BASELINE_QUARTERS = 40  # ten years; later quarters keep the last hazard
_HIDDEN = 32
_SMALLEST = 1e-7
_QUARTERS_A_YEAR = 4.0
_FIRST_LOGIT, _FIRST_WEIGHT = -4.0, 0.05  # where every fit starts
_TIME_CENTRE, _TIME_SCALE = 8.0, 8.0  # quarters: the term in time is zero at two years
_LOW, _HIGH = 0.1, 0.9  # of the band


class HazardNetwork(nn.Module):
    """M networks side by side, each: baseline by quarter + shared linear + deviation by transition + time + MLP.

    covariates: (B, P), z-scored. Logits: (B, M, 3, H); the first two share one softmax with staying well.
    """

    def __init__(self, width: int, members: int, generator: torch.Generator) -> None:
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=generator) * _FIRST_WEIGHT)

        self.members = members
        self.baseline = nn.Parameter(torch.full((members, TRANSITIONS, BASELINE_QUARTERS), _FIRST_LOGIT))
        self.shared = nn.Parameter(torch.zeros(members, width))
        self.deviation = nn.Parameter(torch.zeros(members, TRANSITIONS, width))
        self.time = nn.Parameter(torch.zeros(members, width))
        self.inner, self.bias = drawn(members, width, _HIDDEN), nn.Parameter(torch.zeros(members, 1, _HIDDEN))
        self.outer = drawn(members, _HIDDEN, TRANSITIONS)

    def predictors(self, covariates: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """What a row adds to the baseline, (M, B, 3), and by how much that grows per unit of time, (M, B).

        covariates: (B, P), or (M, B, P) with rows of its own for each network. dropout: of the hidden units.
        """
        rows = covariates if covariates.dim() == TRANSITIONS else covariates.unsqueeze(0).expand(self.members, -1, -1)
        linear = rows @ (self.shared.unsqueeze(1) + self.deviation).transpose(1, 2)
        hidden = nn.functional.silu(rows @ self.inner + self.bias)
        bent = nn.functional.dropout(hidden, dropout, training=dropout > 0.0) @ self.outer
        return linear + bent, (rows @ self.time.unsqueeze(2)).squeeze(2)

    def training_logits(self, covariates: Tensor, dropout: float = 0.0) -> Tensor:
        """Logits of the fitted quarters counted from surgery, (M, B, 3, Q)."""
        level, slope = self.predictors(covariates, dropout)
        clock = clock_of(torch.arange(FIT_QUARTERS, dtype=level.dtype))
        baseline = self.baseline[:, None, :, :FIT_QUARTERS]
        return baseline + level.unsqueeze(3) + (slope.unsqueeze(2) * clock).unsqueeze(2)

    def forward(self, covariates: Tensor, place: Tensor) -> Tensor:
        """Logits at quarters on the postoperative clock. place: (B, H), continuous, within the baseline."""
        level, slope = self.predictors(covariates)
        table = self.baseline.permute(2, 0, 1)  # (Q, M, 3)
        low = place.floor()
        part = (place - low)[:, :, None, None]
        below = low.long()
        above = (below + 1).clamp(max=BASELINE_QUARTERS - 1)
        baseline = table[below] * (1.0 - part) + table[above] * part  # (B, H, M, 3)
        growth = slope.T[:, None, :, None] * clock_of(place)[:, :, None, None]
        return (baseline + level.transpose(0, 1).unsqueeze(1) + growth).permute(0, 2, 3, 1)

    def extend_baseline(self) -> None:
        """Quarters beyond the fitted ones keep the last fitted hazard."""
        with torch.no_grad():
            self.baseline[:, :, FIT_QUARTERS:] = self.baseline[:, :, FIT_QUARTERS - 1 : FIT_QUARTERS]


def clock_of(place: Tensor) -> Tensor:
    """The clock of the term in time: it stands still where the fitted quarters end."""
    return (place.clamp(max=FIT_QUARTERS - 1.0) - _TIME_CENTRE) / _TIME_SCALE


class Recalibration(nn.Module):
    """Logits drawn apart or together around their mean over the training rows, and shifted, by transition."""

    centre: Tensor
    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(TRANSITIONS, BASELINE_QUARTERS))
        self.register_buffer("scale", torch.ones(TRANSITIONS))
        self.register_buffer("offset", torch.zeros(TRANSITIONS))

    def forward(self, logits: Tensor, place: Tensor) -> Tensor:
        """logits: (B, 3, H) at place (B, H)."""
        table = self.centre.T
        low = place.floor()
        part = (place - low).unsqueeze(2)
        below = low.long()
        above = (below + 1).clamp(max=BASELINE_QUARTERS - 1)
        centre = (table[below] * (1.0 - part) + table[above] * part).transpose(1, 2)
        return centre + self.scale[:, None] * (logits - centre) + self.offset[:, None]


class Typicality(nn.Module):
    """How many in a hundred training patients lie as far out: a conformal p-value of the Mahalanobis distance.

    knots: quantiles of the distances of training rows from a centre fitted without them, rising.
    """

    precision: Tensor
    centre: Tensor
    knots: Tensor

    def __init__(self, width: int, knots: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("precision", torch.eye(width))
        self.register_buffer("knots", torch.linspace(0.0, 10.0, knots))

    def forward(self, covariates: Tensor) -> Tensor:
        """(B,), 0 to 1, piecewise linear between the knots; 0 is beyond every training patient."""
        apart = covariates - self.centre
        distance = ((apart @ self.precision) * apart).sum(1).clamp(min=_SMALLEST).sqrt().unsqueeze(1)
        passed = ((distance - self.knots[:-1]) / (self.knots[1:] - self.knots[:-1])).clamp(0.0, 1.0)
        return 1.0 - passed.mean(1)


class IllnessDeath(nn.Module):
    """The graph that is shipped: engineering, network ensemble and distilled student, calibration, band, typicality."""

    def __init__(
        self,
        contract: ModelContract,
        engineering: Engineering,
        ensemble: HazardNetwork,
        *,
        student: HazardNetwork,
        resampled: int,
        knots: int = 51,
    ) -> None:
        """resampled: how many of the ensemble's last members saw bootstrap weights; their spread is the band."""
        super().__init__()
        self.engineering, self.ensemble, self.student = engineering, ensemble, student
        self.recalibration = Recalibration()
        self.typicality = Typicality(len(engineering.names), knots)
        self.resampled = resampled
        self.register_buffer("steps", torch.arange(contract.horizon_quarters, dtype=torch.float32))

    def places(self, years_since_surgery: Tensor) -> Tensor:
        """Forecast quarters on the postoperative clock, (B, H), inside the baseline. years_since_surgery: (B, 1)."""
        return (years_since_surgery * _QUARTERS_A_YEAR + self.steps).clamp(0.0, BASELINE_QUARTERS - 1.0)

    def combined(self, covariates: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Uncalibrated: the mean of ensemble and student, (B, 3, H), and the ensemble's members, (B, M, 3, H)."""
        members = self.ensemble(covariates, place)
        return (members.mean(1) + self.student(covariates, place).mean(1)) / 2.0, members

    def forward(
        self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor, years_since_surgery: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Recurrence, death without recurrence, death (B, H); low and high (B, 3, H); typicality (B, 1)."""
        covariates = self.engineering(static, static_mask, sequence, sequence_mask)
        return self.forecast(covariates, years_since_surgery, self.typicality(covariates))

    def forecast(
        self, covariates: Tensor, years_since_surgery: Tensor, typicality: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """The outputs of the graph from what the hazard networks read, (B, P), and the typicality, (B,)."""
        place = self.places(years_since_surgery)
        middle, members = self.combined(covariates, place)
        calibrated = self.recalibration(middle, place)
        curves = incidences(calibrated)
        low, high = self._band(calibrated, members[:, -self.resampled :], torch.stack(curves, dim=1))
        return (*curves, low, high, typicality.unsqueeze(1))

    def _band(self, middle: Tensor, members: Tensor, curves: Tensor) -> tuple[Tensor, Tensor]:
        """10 and 90 % of the resampled members' curves around the forecast, which always lies inside."""
        spread = self.recalibration.scale[:, None] * (members - members.mean(1, keepdim=True))
        around = [torch.stack(incidences(middle + spread[:, index]), dim=1) for index in range(self.resampled)]
        ordered = torch.sort(torch.stack(around, dim=0), dim=0).values
        # each order statistic of rising curves rises, and so does what lies between two of them
        low, high = _between(ordered, _LOW), _between(ordered, _HIGH)
        return torch.minimum(low, curves), torch.maximum(high, curves)


def _between(ordered: Tensor, quantile: float) -> Tensor:
    """The quantile of values in order along the first dimension, by linear interpolation."""
    place = quantile * (ordered.shape[0] - 1)
    below = int(place)
    above = min(below + 1, ordered.shape[0] - 1)
    return ordered[below] * (1.0 - (place - below)) + ordered[above] * (place - below)


def incidences(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, 3, H) to recurrence, death without recurrence, death, each (B, H), rising, coherent.

    The two ways out of the disease-free state share one softmax with staying in it.
    """
    first, second, third = logits[:, 0], logits[:, 1], logits[:, 2]
    total = 1.0 + first.exp() + second.exp()
    to_illness, to_death = first.exp() / total, second.exp() / total
    after_illness = torch.sigmoid(third)
    free = torch.exp(torch.cumsum(torch.log((1.0 - to_illness - to_death).clamp(min=_SMALLEST)), dim=1))
    before = torch.cat([torch.ones_like(free[:, :1]), free[:, :-1]], dim=1)
    recurrence = torch.cumsum(before * to_illness, dim=1)
    without = torch.cumsum(before * to_death, dim=1)
    survive = (1.0 - after_illness).clamp(min=_SMALLEST)
    alive_ill = torch.exp(torch.cumsum(torch.log(survive), dim=1))
    ill = alive_ill * torch.cumsum(before * to_illness / alive_ill, dim=1)
    ill_before = torch.cat([torch.zeros_like(ill[:, :1]), ill[:, :-1]], dim=1)
    # summed from increments, none negative: the curve cannot fall
    death = torch.cumsum(before * to_death + ill_before * after_illness, dim=1)
    return recurrence.clamp(0.0, 1.0), without.clamp(0.0, 1.0), death.clamp(0.0, 1.0)
