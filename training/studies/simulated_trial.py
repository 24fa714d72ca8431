"""Simulated patients on real covariates: two causes of death, a treatment with a known effect on each.

Everything drawn here is **simulated**; nothing of it trains what is shipped. Covariates are whole HANCOCK rows, so
their joint distribution and their gaps are real; hazards are Cox models of the real deaths by cause; treatment is
given as physicians give it, more often with extranodal extension, positive margins, many nodes and youth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.cohorts.cohort import read_rows
from training.studies.measures import Floats, Integers, Outcomes
from training.studies.ridge_cox import RidgeCox, Scaling

HANCOCK_FILES = ("hancock/clinical.csv", "hancock/pathological.csv", "hancock/targets.csv")
GRID_YEARS = np.arange(1, 21) * 0.5  # ten years, half a year each
DAYS_PER_YEAR = 365.25
_TRIAL_AGE, _MANY_NODES = 70.0, 2.0  # eligibility of RTOG 9501 and EORTC 22931
_TRUE_ALPHA = 100.0
_SHORTEST = 1.0 / DAYS_PER_YEAR
_METASTASIS = "1.0"
_DEATHS = {"deceased tumor specific": 0, "deceased not tumor specific": 1}  # a death of no stated cause is censored


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CauseOfDeath:
    """Curatively treated HANCOCK patients. table: (N, P), NaN unknown; cancer, other: outcomes by cause.

    high_risk: extranodal extension or a positive margin; trial_like: as the two postoperative trials admitted.
    """

    table: Floats
    cancer: Outcomes
    other: Outcomes
    high_risk: NDArray[np.bool_]
    trial_like: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hazards:
    """Cumulative hazards without the treatment, (N, T) on GRID_YEARS, of death from cancer and from all else."""

    cancer: Floats
    other: Floats

    def at(self, rows: Integers) -> Hazards:
        """Some of the patients."""
        return Hazards(cancer=self.cancer[rows], other=self.other[rows])

    def survival(self, cancer_ratio: Floats | float, other_ratio: Floats | float) -> Floats:
        """Overall survival, (N, T), with each cause's hazard multiplied; ratios: (N, 1) or one for all."""
        return np.asarray(np.exp(-(self.cancer * cancer_ratio + self.other * other_ratio)), dtype=np.float64)


def read_causes(data: Path) -> CauseOfDeath:
    """Every HANCOCK patient without primary metastasis. data: the folder that holds `hancock`."""
    clinical, pathology, targets = (
        {row["patient_id"]: row for row in read_rows(data / name)} for name in HANCOCK_FILES
    )
    keys = [key for key, row in clinical.items() if row["primarily_metastasis"] != _METASTASIS]
    rows = [clinical[key] | pathology[key] | targets[key] for key in keys]
    years = np.maximum([float(row["days_to_last_information"]) / DAYS_PER_YEAR for row in rows], _SHORTEST)
    cause = np.array([_DEATHS.get(row["survival_status_with_cause"], -1) for row in rows])
    age = np.array([float(row["age_at_initial_diagnosis"]) for row in rows])
    nodes = np.array([_number(row["number_of_positive_lymph_nodes"]) for row in rows])
    high_risk = np.array([row["perinodal_invasion"] == "1.0" or row["resection_status"] in {"1", "2"} for row in rows])
    return CauseOfDeath(
        table=np.array([_covariates(row) for row in rows]),
        cancer=Outcomes(years=years, died=cause == 0),
        other=Outcomes(years=years, died=cause == 1),
        high_risk=high_risk,
        trial_like=(age <= _TRIAL_AGE) & (high_risk | (nodes >= _MANY_NODES)),
    )


def _covariates(row: dict[str, str]) -> list[float]:
    """Age, sex, smoking, T and N codes, nodes, extension, margin, invasion, p16, site: HANCOCK's label encodings."""
    smoking, p16, tumour, nodes = (
        row[name] for name in ("smoking_status", "hpv_association_p16", "pT_stage", "pN_stage")
    )
    return [
        float(row["age_at_initial_diagnosis"]), max(float(row["age_at_initial_diagnosis"]) - _TRIAL_AGE, 0.0),
        float(row["sex"] == "0"), math.nan if smoking == "3" else float(smoking == "2"),
        math.nan if p16 == "1" else float(p16 == "2"), float(tumour in {"6", "7", "8"}), float(tumour in {"7", "8"}),
        float(nodes in {"4", "5", "6", "7", "8", "9"}), math.log1p(_number(row["number_of_positive_lymph_nodes"])),
        float(row["perinodal_invasion"] == "1.0"), float(row["resection_status"] in {"1", "2"}),
        float(row["perineural_invasion_Pn"] == "1"), float(row["lymphovascular_invasion_L"] == "1"),
        float(row["primary_tumor_site"] == "4"), float(row["primary_tumor_site"] == "1"),
    ]  # fmt: skip


def _number(text: str) -> float:
    return float(text) if text else math.nan


def true_hazards(causes: CauseOfDeath) -> Hazards:
    """The simulation's truth: ridge Cox of each cause on all real rows. No score is ever computed on these rows."""
    return fitted_hazards(causes.table, causes.cancer, causes.other, causes.table, _TRUE_ALPHA)


def fitted_hazards(training: Floats, cancer: Outcomes, other: Outcomes, table: Floats, alpha: float) -> Hazards:
    """Cumulative cause-specific hazards of the rows of `table`, the other cause censored."""
    curves = [
        np.column_stack([-np.log1p(-np.minimum(cox.risk(table, float(year)), 1.0 - 1e-9)) for year in GRID_YEARS])
        for cox in (RidgeCox(training, cancer, alpha), RidgeCox(training, other, alpha))
    ]
    return Hazards(cancer=curves[0], other=curves[1])


def propensity(causes: CauseOfDeath) -> Floats:
    """Probability of being given chemotherapy, (N,): confounded on purpose, with poor overlap at both ends."""
    scores = Scaling.of(causes.table).apply(causes.table)
    age, nodes, extension, margin = scores[:, 0], scores[:, 8], scores[:, 9], scores[:, 10]
    return np.asarray(1.0 / (1.0 + np.exp(0.2 + 0.9 * age - 0.5 * nodes - 0.6 * extension - 0.4 * margin)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """Simulated deaths of N patients; everyone still alive is censored. treated: (N,)."""

    treated: NDArray[np.bool_]
    cancer: Outcomes
    other: Outcomes


def simulate(
    hazards: Hazards,
    treated: NDArray[np.bool_],
    ratios: tuple[Floats, Floats],
    draw: np.random.Generator,
) -> Course:
    """One course per patient. ratios: true hazard ratios of treatment on cancer and other death, each (N,)."""
    times = [
        _inverted(hazard * np.where(treated, ratio, 1.0)[:, None], draw.exponential(size=len(treated)))
        for hazard, ratio in zip((hazards.cancer, hazards.other), ratios, strict=True)
    ]
    censored = draw.uniform(2.0, float(GRID_YEARS[-1]), len(treated))
    years = np.maximum(np.minimum(np.minimum(times[0], times[1]), censored), _SHORTEST)
    return Course(
        treated=treated,
        cancer=Outcomes(years=years, died=(times[0] < times[1]) & (times[0] <= censored)),
        other=Outcomes(years=years, died=(times[1] <= times[0]) & (times[1] <= censored)),
    )


def _inverted(cumulative: Floats, level: Floats) -> Floats:
    """When each cumulative hazard reaches its level; infinity where it never does within the grid."""
    grid = np.concatenate([[0.0], GRID_YEARS])
    rows: Sequence[float] = [
        float(np.interp(one, np.concatenate([[0.0], curve]), grid)) if one <= curve[-1] else math.inf
        for curve, one in zip(cumulative, level, strict=True)
    ]
    return np.array(rows)
