"""A patient as training sees them, straight from the table, and as the service sees them, through a FHIR server.

The server is given the table's own record as FHIR; what is pulled, decoded and assembled is compared entry by entry.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from adapter.domain.record import PatientRecord
from adapter.domain.risk import AtRisk, NotAtRisk
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy, standing
from adapter.features.timeline import build_timeline
from adapter.fhir.client import FhirClient
from adapter.fhir.decode import Reading, decode_record
from adapter.fhir.fetch import fetch_record
from adapter.fhir.known_time import KnownTime
from adapter.pipeline.ports import Predictor
from adapter.sandbox.resources import PUBLIC_COHORT, fhir_resources
from adapter.terminology import Terminology
from inference.contract import ModelInput, ModelOutput
from inference.predictor import CURVES
from training.cohorts.cohort import CohortPatient
from training.cohorts.landmarks import decision_standing

INPUT_BAR, OUTPUT_BAR = 1e-6, 1e-5
PATIENTS_PER_TRANSACTION = 10
SHOWN_EVERY = 50
_EXACT = ("static_mask", "sequence_mask")
_NEAR = ("static", "sequence", "sequence_age_days")
_POLICY = LandmarkPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the model was given about a patient, when, and what it said."""

    landmark: datetime
    model_input: ModelInput
    output: ModelOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One patient as one side sees them. standing: the kind of landmark, or the reason of a skip; asked: None then."""

    patient_id: str
    standing: str
    asked: Asked | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far two sides lie apart: patients that differ by name, and the largest difference of any entry."""

    standings: Counter[str]
    standing_differs: tuple[str, ...]
    landmark_differs: tuple[str, ...]
    masks_differ: tuple[str, ...]
    compared: int
    entries: int
    input_distance: float
    output_distance: float

    @property
    def holds(self) -> bool:
        """Whether both sides agree on every patient within the bars."""
        differs = self.standing_differs or self.landmark_differs or self.masks_differ
        return not differs and self.input_distance <= INPUT_BAR and self.output_distance <= OUTPUT_BAR


def spread(patients: Sequence[CohortPatient], sample: int | None) -> tuple[CohortPatient, ...]:
    """All of them, or so many at equal steps from the first of the file to the last."""
    if sample is None or sample >= len(patients):
        return tuple(patients)
    return tuple(patients[round(place)] for place in np.linspace(0, len(patients) - 1, sample))


def load_cohort(client: FhirClient, patients: Sequence[CohortPatient], terminology: Terminology) -> int:
    """PUT every patient's resources, several patients a transaction; returns how many resources the server took."""
    stored = 0
    for start in range(0, len(patients), PATIENTS_PER_TRANSACTION):
        entries = [
            {"resource": resource, "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}}
            for patient in patients[start : start + PATIENTS_PER_TRANSACTION]
            for resource in fhir_resources(
                patient.record, terminology, family_name="Publiccohort", tags=(PUBLIC_COHORT,)
            )
        ]
        content = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()
        reply = client.post_transaction(content)
        if any(entry.version is None for entry in reply.entries):
            raise RuntimeError("the server did not take every resource of the cohort")
        stored += len(reply.entries)
        _progress("stored", min(start + PATIENTS_PER_TRANSACTION, len(patients)), len(patients))
    return stored


def as_trained(patients: Iterable[CohortPatient], predictor: Predictor) -> Iterator[Seen]:
    """Each patient as training derives them from the table."""
    for patient in patients:
        yield _seen(patient.record, decision_standing(patient.record, _POLICY), predictor)


def as_served(
    client: FhirClient, patients: Sequence[CohortPatient], terminology: Terminology, predictor: Predictor
) -> Iterator[Seen]:
    """Each patient as the service pulls, decodes and assembles them, times known as in a bulk-migrated record."""
    reading = Reading(terminology=terminology, known_time=KnownTime.EFFECTIVE_PLUS_DELAY)
    for number, patient in enumerate(patients, start=1):
        record = decode_record(fetch_record(client, patient.record.person.patient_id), reading)
        yield _seen(record, standing(record, _POLICY), predictor)
        _progress("served", number, len(patients))


def compare(trained: Iterable[Seen], served: Iterable[Seen]) -> Comparison:
    """Both sides patient by patient, in the same order. Raises ValueError when the patients are not the same."""
    pairs = list(zip(trained, served, strict=True))
    if any(one.patient_id != other.patient_id for one, other in pairs):
        raise ValueError("the two sides hold different patients")
    asked = [(one.patient_id, one.asked, other.asked) for one, other in pairs if one.asked and other.asked]
    inputs = [(_vector(one.model_input), _vector(other.model_input)) for _, one, other in asked]
    outputs = [(_curves(one.output), _curves(other.output)) for _, one, other in asked]
    return Comparison(
        standings=Counter(other.standing for _, other in pairs),
        standing_differs=tuple(one.patient_id for one, other in pairs if one.standing != other.standing),
        landmark_differs=tuple(key for key, one, other in asked if one.landmark != other.landmark),
        masks_differ=tuple(key for key, one, other in asked if not _masks_equal(one.model_input, other.model_input)),
        compared=len(asked),
        entries=sum(one.size for one, _ in inputs),
        input_distance=_largest_distance(inputs),
        output_distance=_largest_distance(outputs),
    )


def _seen(record: PatientRecord, stands: AtRisk | NotAtRisk, predictor: Predictor) -> Seen:
    patient_id = str(record.person.patient_id)
    if isinstance(stands, NotAtRisk):
        return Seen(patient_id=patient_id, standing=stands.reason.value, asked=None)
    model_input = assemble(build_timeline(record, (), stands), predictor.contract)
    asked = Asked(landmark=stands.landmark.time, model_input=model_input, output=predictor.predict(model_input))
    return Seen(patient_id=patient_id, standing=stands.kind.value, asked=asked)


def _masks_equal(one: ModelInput, other: ModelInput) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in _EXACT)


def _vector(model_input: ModelInput) -> NDArray[np.float64]:
    """Every number of the input behind each other."""
    arrays = [getattr(model_input, name).ravel() for name in _NEAR]
    return np.concatenate([*arrays, [model_input.years_since_surgery]]).astype(np.float64)


def _curves(output: ModelOutput) -> NDArray[np.float64]:
    return np.concatenate([getattr(output, name) for name in CURVES]).astype(np.float64)


def _largest_distance(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """The largest difference of any two entries; NaN, which keeps to no bar, where one is not a number."""
    return float(np.max([np.abs(one - other).max() for one, other in pairs], initial=0.0))


def _progress(what: str, done: int, total: int) -> None:
    if done % SHOWN_EVERY == 0 or done == total:
        print(f"{what} {done} of {total}", file=sys.stderr, flush=True)
