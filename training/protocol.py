"""Why the concordance here is below earlier reports on HANCOCK: the same Cox model under the patients they counted.

Earlier work scored all 763 patients from surgery on, the primarily metastatic among them and metastasis as a covariate.
The shipped model speaks to nobody with distant metastasis, so it is not trained or scored on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from adapter.domain.risk import NotAtRisk
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy
from adapter.features.timeline import build_timeline
from inference.contract import ModelContract
from training.cohorts.cohort import CohortPatient
from training.cohorts.landmarks import LandmarkRow, decision_standing
from training.evaluate import ENDPOINTS, ENGINEERED_ALPHA, folds, outcomes
from training.likelihood import batch_of
from training.network import IllnessDeath


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRow:
    """The engineered ridge Cox on one choice of patients. concordance: Harrell's C by endpoint, mean over the folds."""

    patients: str
    count: int
    concordance: dict[str, float]


def compare_protocols(patients: Sequence[CohortPatient], contract: ModelContract) -> tuple[ProtocolRow, ...]:
    """From surgery on: those treated to cure, everyone, and everyone with metastasis as a covariate."""
    metastatic = np.array([patient.excluded is not None for patient in patients])
    curative = [patient for patient in patients if patient.excluded is None]
    everyone = _from_surgery(patients, contract)
    return (
        _row("treated to cure", _from_surgery(curative, contract), contract),
        _row("and the primarily metastatic", everyone, contract),
        _row("and metastasis as a covariate", everyone, contract, extra=metastatic),
    )


def _from_surgery(patients: Iterable[CohortPatient], contract: ModelContract) -> list[LandmarkRow]:
    """Everyone with the inputs of the decision landmark and the days from surgery, as if metastasis were not known."""
    policy = LandmarkPolicy()
    rows = []
    for patient in patients:
        findings = tuple(entry for entry in patient.record.measurements if entry.feature != "cM")
        record = replace(patient.record, measurements=findings)
        stands = decision_standing(record, policy)
        if isinstance(stands, NotAtRisk):
            continue
        rows.append(
            LandmarkRow(
                patient_id=str(record.person.patient_id),
                model_input=assemble(build_timeline(record, (), stands), contract),
                illness_days=patient.follow_up.illness_days,
                last_days=patient.follow_up.last_days,
                died=patient.follow_up.died,
            )
        )
    return rows


def _row(
    name: str, rows: Sequence[LandmarkRow], contract: ModelContract, extra: NDArray[np.bool_] | None = None
) -> ProtocolRow:
    concordance: dict[str, list[float]] = {endpoint: [] for endpoint in ENDPOINTS}
    for train, test in folds(len(rows)):
        covariates = _covariates(rows, train, contract, extra)
        for endpoint in ENDPOINTS:
            events, times = outcomes(rows, endpoint)
            fitted = CoxPHSurvivalAnalysis(alpha=ENGINEERED_ALPHA).fit(
                covariates[train], Surv.from_arrays(events[train], times[train])
            )
            risk = fitted.predict(covariates[test])
            concordance[endpoint].append(concordance_index_censored(events[test], times[test], risk)[0])
    means = {endpoint: float(np.mean(values)) for endpoint, values in concordance.items()}
    return ProtocolRow(patients=name, count=len(rows), concordance=means)


def _covariates(
    rows: Sequence[LandmarkRow], train: NDArray[np.int64], contract: ModelContract, extra: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """The model's covariates, (N, P), z-scored on the training rows; extra: one more flag, z-scored likewise."""
    inputs = batch_of(rows).inputs[:4]
    engineering = IllnessDeath(contract).double().engineering
    engineering.fit(*(tensor[torch.from_numpy(train)] for tensor in inputs))
    with torch.no_grad():
        values: NDArray[np.float64] = engineering(*inputs).numpy()
    if extra is None:
        return values
    flag = (extra - extra[train].mean()) / extra[train].std()
    return np.column_stack([values, flag])
