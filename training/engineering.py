"""Contract values to covariates, inside the graph: hinges, thresholds, logarithms, ratios, z-scores, clipping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from inference.contract import ModelContract
from training.postoperative_contract import METASTASIS

_CLIP = 6.0
_T3, _T4, _N1, _N2, _N3 = 3.0, 4.0, 1.0, 2.0, 3.0
_HALF = 0.5
_HGB_LOW, _AGE_HINGES = 13.0, (55.0, 70.0)  # g/dL; years
_SMALLEST_MEASURED = 1e-3  # keeps the logarithm of a masked zero finite
_SMALLEST_SCALE = 0.05  # no covariate is blown up beyond twenty-fold
_NO_SCALE = 1e-5  # what rounding leaves of a constant's deviation
_COUNTS = ("wbc", "mono", "plt", "neut", "lymph")
_EOSINOPHIL_FLOOR = 0.05  # 10*9/L: counts of zero are real and common
_GROUPS = {
    "age": ("age", "age_over_55", "age_over_70"),
    "sex": ("male",),
    "smoking": ("smoking_current", "smoking_never"),
    "site and p16": (
        "oral_cavity", "oropharynx", "hypopharynx", "larynx", "unknown_primary", "p16_positive", "p16_negative",
        "oropharynx_p16",
    ),
    "tumour": ("pT", "pT_3_or_more", "pT_4_or_more", "pT_unknown", "depth", "depth_unknown"),
    "nodes": ("pN", "pN_1_or_more", "pN_2_or_more", "pN_3", "pN_unknown", "nodes_positive", "ene"),
    "margin": ("margin",),
    "invasion": ("lymphatic_invasion", "vascular_invasion", "lvi", "pni"),
    "grade": ("grade",),
    "blood counts": (
        "log_wbc", "log_mono", "log_plt", "log_neut", "log_lymph", "log_eos", "log_nlr", "log_plr", "log_lmr",
    ),
    "haemoglobin": ("hgb", "hgb_deficit"),
    "red-cell width": ("rdw",),
    METASTASIS: (METASTASIS,),
}  # fmt: skip
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

    def groups(self) -> Tensor:
        """Which covariates go or stay together because they rest on the same findings, (G, P), 0 or 1."""
        present = [names for names in _GROUPS.values() if set(names) <= set(self.names)]
        return torch.tensor([[float(name in names) for name in self.names] for names in present])

    def fit(self, static: Tensor, static_mask: Tensor, sequence: Tensor, sequence_mask: Tensor) -> None:
        """Set the z-scores from training rows, each covariate from the rows that know it.

        One that no row knows, or that is the same in all, teaches nothing: it stands at zero for whoever is asked
        about later, where a small scale would put them six deviations out.
        """
        values, known = self._raw(static, static_mask, sequence, sequence_mask)
        count = known.sum(0).clamp(min=1.0)
        mean = (values * known).sum(0) / count
        variance = (known * (values - mean) ** 2).sum(0) / count
        self.mean = mean
        scale = variance.sqrt()
        self.scale = torch.where(scale > _NO_SCALE, scale.clamp(min=_SMALLEST_SCALE), torch.inf)

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
        extra = entries.plain(METASTASIS) if METASTASIS in self._index else []
        return [*_person(entries), *_stage(entries), *_pathology(entries), *extra, *_blood(laboratory)]


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
    logarithms = {name: laboratory.logarithm(name) for name in _COUNTS}

    def ratio(above: str, below: str) -> tuple[Tensor, Tensor]:
        (left, left_known), (right, right_known) = logarithms[above], logarithms[below]
        return left - right, left_known * right_known

    deficit = (_HGB_LOW - laboratory.value("hgb")).clamp(min=0.0)
    return [
        *((f"log_{name}", *logarithms[name]) for name in _COUNTS),
        ("log_nlr", *ratio("neut", "lymph")),
        ("log_plr", *ratio("plt", "lymph")),
        ("log_lmr", *ratio("lymph", "mono")),
        ("log_eos", torch.log(laboratory.value("eos").clamp(min=0.0) + _EOSINOPHIL_FLOOR), laboratory.known("eos")),
        *laboratory.plain("hgb"),
        ("hgb_deficit", deficit, laboratory.known("hgb")),
        *laboratory.plain("rdw"),
    ]


def last_values(sequence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The newest known value of each column, (B, F), and whether there is one. Rows are in order of time."""
    later = mask.flip(1).cumsum(1).flip(1) - mask  # how many known entries come after this one
    newest = mask * (later < _HALF).float()
    return (sequence * newest).sum(1), mask.amax(1)
