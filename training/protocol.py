"""The two choices of patients that the model is scored on, kept apart.

`landmark`: whom the shipped model speaks to, from the decision landmark on. `published`: what earlier work on these
tables counted, all 763 patients from surgery on, the primarily metastatic among them and metastasis as a covariate.
Those relapse soon and are easy to tell apart, so that concordance lies higher there with any model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from adapter.domain.risk import NotAtRisk
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy
from adapter.features.timeline import build_timeline
from inference.contract import ModelContract
from training.cohorts.cohort import CohortPatient
from training.cohorts.landmarks import LandmarkRow, decision_standing, landmark_rows
from training.crossvalidate import Study
from training.postoperative_contract import METASTASIS, postoperative_contract

_HALF = 0.5


def landmark_study(patients: Iterable[CohortPatient], others: Iterable[CohortPatient]) -> Study:
    """The shipped model's own patients."""
    contract = postoperative_contract()
    rows, beside = landmark_rows(patients, contract), landmark_rows(others, contract)
    return Study(name="landmark", rows=rows, others=beside, contract=contract)


def published_study(patients: Sequence[CohortPatient], others: Iterable[CohortPatient]) -> Study:
    """Everyone from surgery, with one more input: primary metastasis. Not calibrated, as earlier work was not."""
    contract = postoperative_contract(metastasis=True)
    rows, beside = rows_from_surgery(patients, contract), landmark_rows(others, contract)
    return Study(name="published", rows=rows, others=beside, contract=contract, calibrate=False)


def oropharynx_study(published: Study) -> Study:
    """All patients with a tumour of the oropharynx, fitted on all others of the first cohort."""
    place = [entry.name for entry in published.contract.static].index("oropharynx")
    tested = tuple(index for index, row in enumerate(published.rows) if row.model_input.static[place] > 0)
    return replace(published, name="oropharynx", others=(), tested=tested)


def transfer_study(landmark: Study) -> Study:
    """The second cohort, fitted on the first alone."""
    rows = (*landmark.rows, *landmark.others)
    tested = tuple(range(len(landmark.rows), len(rows)))
    return replace(landmark, name="transfer", rows=rows, others=(), tested=tested)


def reverse_study(landmark: Study) -> Study:
    """The first cohort, fitted on the second alone."""
    rows = (*landmark.others, *landmark.rows)
    tested = tuple(range(len(landmark.others), len(rows)))
    return replace(landmark, name="reverse", rows=rows, others=(), tested=tested)


def shuffled_study(landmark: Study) -> Study:
    """Outcomes exchanged between training rows: nothing may be found."""
    return replace(landmark, name="shuffled", repeats=1, calibrate=False, shuffled=True)


def lookalikes(rows: Sequence[LandmarkRow]) -> list[tuple[LandmarkRow, LandmarkRow]]:
    """Pairs of patients with the same inputs, bit for bit, of which at least half of the static ones are known."""
    seen: dict[bytes, LandmarkRow] = {}
    pairs = []
    for row in rows:
        entry = row.model_input
        if entry.static_mask.mean() < _HALF:
            continue
        content = b"".join(getattr(entry, name).tobytes() for name in ("static", "static_mask", "sequence"))
        if content in seen:
            pairs.append((seen[content], row))
        seen[content] = row
    return pairs


def are_copies(one: LandmarkRow, other: LandmarkRow) -> bool:
    """Whether what followed is the same too: of two lookalikes, then, one was copied."""
    return (one.illness_days, one.last_days, one.died) == (other.illness_days, other.last_days, other.died)


def rows_from_surgery(patients: Iterable[CohortPatient], contract: ModelContract) -> tuple[LandmarkRow, ...]:
    """Everyone with the inputs of the decision landmark and the days from surgery; a contract with METASTASIS."""
    policy, rows = LandmarkPolicy(), []
    place = next(index for index, entry in enumerate(contract.static) if entry.name == METASTASIS)
    for patient in patients:
        findings = tuple(entry for entry in patient.record.measurements if entry.feature != "cM")
        record = replace(patient.record, measurements=findings)
        stands = decision_standing(record, policy)
        if isinstance(stands, NotAtRisk):
            continue
        model_input = assemble(build_timeline(record, (), stands), contract)
        static, mask = model_input.static.copy(), model_input.static_mask.copy()
        static[place], mask[place] = np.float32(patient.excluded is not None), 1.0
        follow_up = patient.follow_up
        rows.append(
            LandmarkRow(
                patient_id=str(record.person.patient_id),
                model_input=replace(model_input, static=static, static_mask=mask, years_since_surgery=0.0),
                illness_days=follow_up.illness_days,
                last_days=follow_up.last_days,
                died=follow_up.died,
            )
        )
    return tuple(rows)
