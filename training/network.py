"""The linear illness-death model in discrete time, with all feature engineering inside the graph.

Three hazards by quarter: disease-free to recurrence (h01) and to death (h02), and from recurrence to death (h12).
Recurrence, death without recurrence and death follow from them, so that they can never contradict each other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inference.contract import ModelContract

TRANSITIONS = 3
BASELINE_QUARTERS = 40  # ten years; later quarters keep the last hazard
_CLIP = 6.0
_SMALLEST = 1e-7
_T3, _T4, _N2, _N3 = 3.0, 4.0, 2.0, 3.0
_HALF = 0.5
_HGB_LOW, _AGE_HINGES = 13.0, (55.0, 70.0)


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
        self.scale = variance.sqrt().clamp(min=0.05)

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
    ) -> list[tuple[str, Tensor, Tensor]]:
        """(name, value, known) of each covariate. Source of the set: model.md section 7, heavily regularised."""

        def value(name: str) -> Tensor:
            return static[:, self._index[name]]

        def known(name: str) -> Tensor:
            return static_mask[:, self._index[name]]

        always = torch.ones_like(static[:, 0])
        age, t, n, nodes = value("age_at_surgery"), value("pT"), value("pN"), value("nodes_positive")
        rows = [
            ("age", age, known("age_at_surgery")),
            ("age_over_55", (age - _AGE_HINGES[0]).clamp(min=0.0), known("age_at_surgery")),
            ("age_over_70", (age - _AGE_HINGES[1]).clamp(min=0.0), known("age_at_surgery")),
            *((name, value(name), known(name)) for name in ("male", "smoking_current", "smoking_never")),
            *(
                (name, value(name), known(name))
                for name in ("oral_cavity", "oropharynx", "hypopharynx", "larynx", "unknown_primary")
            ),
            ("p16_positive", (value("p16") > 0).float() * known("p16"), always),
            ("p16_negative", (value("p16") < 0).float() * known("p16"), always),
            ("oropharynx_p16", (value("p16") > 0).float() * known("p16") * value("oropharynx"), always),
            ("pT", t, known("pT")),
            ("pT_3_or_more", (t >= _T3).float(), known("pT")),
            ("pT_4_or_more", (t >= _T4).float(), known("pT")),
            ("pT_unknown", 1.0 - known("pT"), always),
            ("pN", n, known("pN")),
            ("pN_1_or_more", (n >= 1.0).float(), known("pN")),
            ("pN_2_or_more", (n >= _N2).float(), known("pN")),
            ("pN_3", (n >= _N3).float(), known("pN")),
            ("pN_unknown", 1.0 - known("pN"), always),
            ("nodes_positive", torch.log1p(nodes.clamp(min=0.0)), known("nodes_positive")),
            ("depth", torch.log1p(value("depth_of_invasion").clamp(min=0.0)), known("depth_of_invasion")),
            ("depth_unknown", 1.0 - known("depth_of_invasion"), always),
            # without a resected node there is none to extend beyond: missing stands as absent
            ("ene", value("ene") * known("ene"), always),
            ("margin", value("margin"), known("margin")),
            *(
                (name, value(name), known(name))
                for name in ("lymphatic_invasion", "vascular_invasion", "lvi", "pni", "grade")
            ),
        ]
        last, measured = last_values(sequence, sequence_mask)

        def log_of(name: str) -> tuple[Tensor, Tensor]:
            place = self._laboratory[name]
            positive = (last[:, place] > 0).float() * measured[:, place]
            return torch.log(last[:, place].clamp(min=1e-3)), positive

        rows.extend((f"log_{name}", *log_of(name)) for name in ("wbc", "mono", "plt"))
        neut, lymph, plt, mono = log_of("neut"), log_of("lymph"), log_of("plt"), log_of("mono")
        rows.append(("log_nlr", neut[0] - lymph[0], neut[1] * lymph[1]))
        rows.append(("log_plr", plt[0] - lymph[0], plt[1] * lymph[1]))
        rows.append(("log_lmr", lymph[0] - mono[0], lymph[1] * mono[1]))
        hgb, rdw = self._laboratory["hgb"], self._laboratory["rdw"]
        rows.append(("hgb", last[:, hgb], measured[:, hgb]))
        rows.append(("hgb_deficit", (_HGB_LOW - last[:, hgb]).clamp(min=0.0), measured[:, hgb]))
        rows.append(("rdw", last[:, rdw], measured[:, rdw]))
        return rows


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
        self.baseline = nn.Parameter(torch.full((TRANSITIONS, BASELINE_QUARTERS), -4.0))
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
        place = (years_since_surgery * 4.0 + self.steps).clamp(0.0, BASELINE_QUARTERS - 1.0)  # (B, H)
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
