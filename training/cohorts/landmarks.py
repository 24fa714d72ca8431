"""From a cohort to model inputs, by the code that serves: standing, timeline, assemble."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adapter.domain.landmark import Landmark
from adapter.domain.record import PatientRecord
from adapter.domain.risk import AtRisk, LandmarkKind, NotAtRisk, SkipReason
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy, standing
from adapter.features.timeline import build_timeline
from inference.contract import ModelContract, ModelInput
from training.cohorts.cohort import CohortPatient


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandmarkRow:
    """One patient at the decision landmark. Days count from the landmark; illness_days None = none seen."""

    patient_id: str
    model_input: ModelInput
    illness_days: float | None
    last_days: float
    died: bool


def landmark_rows(patients: Iterable[CohortPatient], contract: ModelContract) -> tuple[LandmarkRow, ...]:
    """Every patient who may train and was still event-free at the landmark."""
    policy = LandmarkPolicy()
    rows = []
    for patient in patients:
        stands = decision_standing(patient.record, policy)
        if patient.excluded is not None or isinstance(stands, NotAtRisk):
            continue
        elapsed = (stands.landmark.time - stands.index_surgery.performed.midpoint).total_seconds() / 86400.0
        follow_up = patient.follow_up
        first = follow_up.illness_days if follow_up.illness_days is not None else follow_up.last_days
        if first <= elapsed:
            continue
        timeline = build_timeline(patient.record, (), stands)
        rows.append(
            LandmarkRow(
                patient_id=str(patient.record.person.patient_id),
                model_input=assemble(timeline, contract),
                illness_days=None if follow_up.illness_days is None else follow_up.illness_days - elapsed,
                last_days=follow_up.last_days - elapsed,
                died=follow_up.died,
            )
        )
    return tuple(rows)


def decision_standing(record: PatientRecord, policy: LandmarkPolicy) -> AtRisk | NotAtRisk:
    """As the service stands; a table that records no margin is complete, not pending, and stands at its last entry."""
    stands = standing(record, policy)
    if isinstance(stands, AtRisk) or stands.reason is not SkipReason.PATHOLOGY_PENDING:
        return stands
    surgery = next(entry for entry in record.procedures if entry.kind == "definitive_resection")
    last = max(entry.known for entry in record.dated())
    landmark = Landmark(time=last, horizons=policy.horizons)
    return AtRisk(kind=LandmarkKind.DECISION, landmark=landmark, index_surgery=surgery)
