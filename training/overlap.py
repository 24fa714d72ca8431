"""How far treated and untreated patients of TCGA-HNSC overlap: where they do not, nobody could tell the arms apart.

Nothing here estimates an effect. Effects come from randomised trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from training.cohorts.landmarks import LandmarkRow
from training.cohorts.tcga_treatment import TreatedPatient
from training.crossvalidate import Study
from training.recipe import batch_with, engineered

LEAST = 0.10  # an arm that fewer than one in ten like this patient received cannot be compared
_INVERSE_RIDGE, _FOLDS = 0.05, 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlap:
    """One contrast. propensity: held out, 0 to 1, (N,); treated: (N,). name: what was given or not."""

    name: str
    propensity: NDArray[np.float64]
    treated: NDArray[np.bool_]

    @property
    def inside(self) -> float:
        """Share of patients for whom neither arm was rarer than LEAST."""
        return float(((self.propensity >= LEAST) & (self.propensity <= 1.0 - LEAST)).mean())

    @property
    def effective(self) -> tuple[float, float]:
        """Effective number of patients in either arm, treated first, when each stands for all like them."""
        weights = np.where(self.treated, 1.0 / self.propensity, 1.0 / (1.0 - self.propensity))
        first, second = (float(part.sum() ** 2 / (part**2).sum()) for part in self._by_arm(weights))
        return first, second

    def _by_arm(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return values[self.treated], values[~self.treated]


def overlaps(study: Study, treatments: Sequence[TreatedPatient]) -> tuple[Overlap, Overlap]:
    """Radiotherapy against none; chemotherapy beside it against radiotherapy alone. study: TCGA-HNSC as its others."""
    given = {patient.patient_id.casefold().replace("-", ""): patient for patient in treatments}
    pairs = [(row, given[key]) for row in study.others if (key := _barcode(row)) in given]
    radiotherapy = [(row, one.radiotherapy) for row, one in pairs if one.radiotherapy is not None]
    beside = [(row, one.chemotherapy) for row, one in pairs if one.radiotherapy and one.chemotherapy is not None]
    return (
        _overlap("radiotherapy or none", study, radiotherapy),
        _overlap("radiotherapy with chemotherapy or alone", study, beside),
    )


def _overlap(name: str, study: Study, told: Sequence[tuple[LandmarkRow, bool]]) -> Overlap:
    _, covariates = engineered(study.contract, batch_with([row for row, _ in told], ()))
    treated = np.array([answer for _, answer in told])
    model = LogisticRegression(C=_INVERSE_RIDGE, max_iter=1000)
    chances = cross_val_predict(model, covariates.values.numpy(), treated, cv=_FOLDS, method="predict_proba")
    return Overlap(name=name, propensity=np.asarray(chances[:, 1], dtype=np.float64), treated=treated)


def _barcode(row: LandmarkRow) -> str:
    """Of the patient form, without case and hyphens: ids of rows carry the cohort's name before it."""
    return row.patient_id.casefold().removeprefix("tcga_hnsc-").removeprefix("tcga-hnsc-").replace("-", "")
