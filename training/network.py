"""The linear illness-death model in discrete time, with all feature engineering inside the graph.

Three hazards by quarter: disease-free to recurrence (h01) and to death (h02), and from recurrence to death (h12).
Recurrence, death without recurrence and death follow from them, so that they can never contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from inference.contract import ModelContract

TRANSITIONS = 3
BASELINE_QUARTERS = 40  # ten years; later quarters keep the last hazard
_CLIP = 6.0
_SMALLEST = 1e-7
_T3, _T4, _N1, _N2, _N3 = 3.0, 4.0, 1.0, 2.0, 3.0
_HALF = 0.5
_HGB_LOW, _AGE_HINGES = 13.0, (55.0, 70.0)  # g/dL; years
_SMALLEST_MEASURED = 1e-3  # keeps the logarithm of a masked zero finite
_QUARTERS_A_YEAR = 4.0
_FIRST_LOGIT, _SMALLEST_SCALE = -4.0, 0.05  # where the fit starts; no covariate is blown up beyond twenty-fold
Covariate: TypeAlias = tuple[str, Tensor, Tensor]  # name, value (B,), known (B,)


class Engineering(nn.Module):
    """Raw contract values and masks to the model's covariates; what is not known stands at the training mean (0).

    static, static_mask: (B, S); sequence, sequence_mask: (B, T, F). Returns (B, P), z-scored, clipped at 6 either way.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, contract: ModelContract) -> None:
        super().__init__()
        self._index = {entry.name: place for place, entry in enumerate(contract.static)}
        self._laboratory = {entry.name: place for place, entry in enumerate(contract.sequence)}
        self.names = tuple(name for name, _, _ in self._covariates(*self._dummies(contract)))
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("scale", torch.ones(len(self.names)))

    def fit(self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor) -> None:
        """Set the z-scores from training rows, each covariate from the rows that know it."""
        values, known = self._raw(static, static_mask, sequence, sequence_mask)
        count = known.sum(0).clamp(min=1.0)
        mean = (values * known).sum(0) / count
        variance = (known * (values - mean) ** 2).sum(0) / count
        self.mean = mean
        self.scale = variance.sqrt().clamp(min=_SMALLEST_SCALE)

    def forward(self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor) -> Tensor:
        """Covariates, (B, P)."""
        values, known = self._raw(static, static_mask, sequence, sequence_mask)
        return ((values - self.mean) / self.scale).clamp(-_CLIP, _CLIP) * known

    def _raw(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        covariates = self._covariates(*inputs)
        return (
            torch.stack([value for _, value, _ in covariates], dim=1),
            torch.stack([known for _, _, known in covariates], dim=1),
        )

    def _dummies(self, contract: ModelContract) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        static = torch.zeros(2, len(contract.static))
        sequence = torch.zeros(2, contract.sequence_length, len(contract.sequence))
        return static, static, sequence, sequence

    def _covariates(
        self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor
    ) -> list[Covariate]:
        """Every covariate in the order of the weights. Source of the set: model.md section 7, heavily regularised."""
        entries = Entries(values=static, masks=static_mask, place=self._index)
        last, measured = last_values(sequence, sequence_mask)
        laboratory = Entries(values=last, masks=measured, place=self._laboratory)
        return [*_person(entries), *_stage(entries), *_pathology(entries), *_blood(laboratory)]


class Entries:
    """Columns by name. values, masks: (B, N); place: the column of each name."""

    def __init__(self, *, values: Tensor, masks: Tensor, place: Mapping[str, int]) -> None:
        self._values, self._masks, self._place = values, masks, place

    def value(self, name: str) -> Tensor:
        """The column, (B,); 0 where it is masked."""
        return self._values[:, self._place[name]]

    def known(self, name: str) -> Tensor:
        """1 where the column is known, (B,)."""
        return self._masks[:, self._place[name]]

    def plain(self, *names: str) -> list[Covariate]:
        """Columns as they are."""
        return [(name, self.value(name), self.known(name)) for name in names]

    def logarithm(self, name: str) -> tuple[Tensor, Tensor]:
        """Natural logarithm of a concentration, (B,), and where there is one: known and above zero."""
        value = self.value(name)
        return torch.log(value.clamp(min=_SMALLEST_MEASURED)), (value > 0).float() * self.known(name)

    def always(self) -> Tensor:
        """Ones, (B,): a flag of what is missing is itself never missing."""
        return torch.ones_like(self._values[:, 0])


def _person(entries: Entries) -> list[Covariate]:
    """Age with hinges (years), sex, smoking, site, p16."""
    age, known, always = entries.value("age_at_surgery"), entries.known("age_at_surgery"), entries.always()
    positive = (entries.value("p16") > 0).float() * entries.known("p16")
    negative = (entries.value("p16") < 0).float() * entries.known("p16")
    return [
        ("age", age, known),
        *((f"age_over_{hinge:.0f}", (age - hinge).clamp(min=0.0), known) for hinge in _AGE_HINGES),
        *entries.plain("male", "smoking_current", "smoking_never"),
        *entries.plain("oral_cavity", "oropharynx", "hypopharynx", "larynx", "unknown_primary"),
        ("p16_positive", positive, always),
        ("p16_negative", negative, always),
        ("oropharynx_p16", positive * entries.value("oropharynx"), always),
    ]


def _stage(entries: Entries) -> list[Covariate]:
    """Pathological T and N: as ordinals, as thresholds, and whether they are known at all."""
    tumour, nodes, always = entries.value("pT"), entries.value("pN"), entries.always()
    return [
        *entries.plain("pT"),
        ("pT_3_or_more", (tumour >= _T3).float(), entries.known("pT")),
        ("pT_4_or_more", (tumour >= _T4).float(), entries.known("pT")),
        ("pT_unknown", 1.0 - entries.known("pT"), always),
        *entries.plain("pN"),
        ("pN_1_or_more", (nodes >= _N1).float(), entries.known("pN")),
        ("pN_2_or_more", (nodes >= _N2).float(), entries.known("pN")),
        ("pN_3", (nodes >= _N3).float(), entries.known("pN")),
        ("pN_unknown", 1.0 - entries.known("pN"), always),
    ]


def _pathology(entries: Entries) -> list[Covariate]:
    """Positive nodes (count) and depth (mm) on the log1p scale, extranodal extension, margin, invasion, grade."""
    nodes, depth, always = entries.value("nodes_positive"), entries.value("depth_of_invasion"), entries.always()
    return [
        ("nodes_positive", torch.log1p(nodes.clamp(min=0.0)), entries.known("nodes_positive")),
        ("depth", torch.log1p(depth.clamp(min=0.0)), entries.known("depth_of_invasion")),
        ("depth_unknown", 1.0 - entries.known("depth_of_invasion"), always),
        # without a resected node there is none to extend beyond: missing stands as absent
        ("ene", entries.value("ene") * entries.known("ene"), always),
        *entries.plain("margin", "lymphatic_invasion", "vascular_invasion", "lvi", "pni", "grade"),
    ]


def _blood(laboratory: Entries) -> list[Covariate]:
    """Newest counts (10*9/L) and their ratios on the log scale, haemoglobin (g/dL), its deficit, RDW (%)."""
    logarithms = {name: laboratory.logarithm(name) for name in ("wbc", "mono", "plt", "neut", "lymph")}

    def ratio(above: str, below: str) -> tuple[Tensor, Tensor]:
        (left, left_known), (right, right_known) = logarithms[above], logarithms[below]
        return left - right, left_known * right_known

    deficit = (_HGB_LOW - laboratory.value("hgb")).clamp(min=0.0)
    return [
        *((f"log_{name}", *logarithms[name]) for name in ("wbc", "mono", "plt")),
        ("log_nlr", *ratio("neut", "lymph")),
        ("log_plr", *ratio("plt", "lymph")),
        ("log_lmr", *ratio("lymph", "mono")),
        *laboratory.plain("hgb"),
        ("hgb_deficit", deficit, laboratory.known("hgb")),
        *laboratory.plain("rdw"),
    ]


def last_values(sequence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The newest known value of each column, (B, F), and whether there is one. Rows are in order of time."""
    later = mask.flip(1).cumsum(1).flip(1) - mask  # how many known entries come after this one
    newest = mask * (later < _HALF).float()
    return (sequence * newest).sum(1), mask.amax(1)


class IllnessDeath(nn.Module):
    """Linear predictors on quarterly hazards, shifted to the landmark's place on the postoperative clock."""

    def __init__(self, contract: ModelContract) -> None:
        super().__init__()
        self.engineering = Engineering(contract)
        width = len(self.engineering.names)
        self.shared = nn.Parameter(torch.zeros(width))
        self.deviation = nn.Parameter(torch.zeros(TRANSITIONS, width))
        self.baseline = nn.Parameter(torch.full((TRANSITIONS, BASELINE_QUARTERS), _FIRST_LOGIT))
        self.horizon = contract.horizon_quarters
        self.register_buffer("steps", torch.arange(contract.horizon_quarters, dtype=torch.float32))

    def linear(self, covariates: Tensor) -> Tensor:
        """Linear predictor of each transition, (B, 3)."""
        return covariates @ (self.shared + self.deviation).T

    def forward(
        self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor, years_since_surgery: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Cumulative incidences of recurrence, death without recurrence, and death; each (B, H)."""
        predictors = self.linear(self.engineering(static, static_mask, sequence, sequence_mask))
        place = (years_since_surgery * _QUARTERS_A_YEAR + self.steps).clamp(0.0, BASELINE_QUARTERS - 1.0)  # (B, H)
        low = place.floor()
        part = (place - low).unsqueeze(1)
        below = low.long()
        above = (below + 1).clamp(max=BASELINE_QUARTERS - 1)
        baseline = self.baseline.T  # (Q, 3)
        level = baseline[below].transpose(1, 2) * (1.0 - part) + baseline[above].transpose(1, 2) * part
        return incidences(level + predictors.unsqueeze(2))


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
