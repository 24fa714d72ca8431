"""Training and serving see the same patient: every HANCOCK patient through FHIR and a real HAPI, compared by entry.

Each patient of the training cohort is exported to FHIR, stored in HAPI, pulled page by page and decoded as the service
does; standing, model input and model output are then compared with what training derives from the table itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from adapter.domain.record import PatientRecord
from adapter.domain.risk import AtRisk, NotAtRisk
from adapter.features.assemble import assemble
from adapter.features.at_risk import LandmarkPolicy, standing
from adapter.features.timeline import build_timeline
from adapter.fhir.client import FhirClient
from adapter.fhir.decode import KnownTime, Reading, decode_record
from adapter.fhir.fetch import fetch_record
from adapter.sandbox.resources import PUBLIC_COHORT, fhir_resources
from adapter.terminology import Terminology, load_terminology
from inference.artifact import load_bundle, shipped_bundle
from inference.contract import ModelInput, ModelOutput
from inference.predictor import OUTPUTS, Predictor
from tests.peers.hapi import start_hapi
from tests.peers.process import PeerMissing
from training.cohorts.cohort import CohortPatient
from training.cohorts.hancock import read_hancock
from training.cohorts.landmarks import decision_standing, landmark_rows

INPUT_BAR, OUTPUT_BAR = 1e-6, 1e-5
PATIENTS_PER_TRANSACTION = 10
SHOWN_EVERY = 50
_EXACT = ("static_mask", "sequence_mask")
_NEAR = ("static", "sequence", "sequence_age_days")
_POLICY = LandmarkPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One patient as one side sees them. standing: `decision`, `follow_up` or the reason of a skip.

    landmark, model_input and output are None where the patient is skipped.
    """

    patient_id: str
    standing: str
    landmark: datetime | None = None
    model_input: ModelInput | None = None
    output: ModelOutput | None = None


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
    both = [
        (one, other, one.model_input, other.model_input, one.output, other.output)
        for one, other in pairs
        if one.standing == other.standing
    ]
    inputs = [(one, first, second) for one, _, first, second, _, _ in both if first and second]
    outputs = [(first, second) for *_, first, second in both if first and second]
    return Comparison(
        standings=Counter(other.standing for _, other in pairs),
        standing_differs=tuple(one.patient_id for one, other in pairs if one.standing != other.standing),
        landmark_differs=tuple(one.patient_id for one, other in pairs if one.landmark != other.landmark),
        masks_differ=tuple(one.patient_id for one, first, second in inputs if not _masks_equal(first, second)),
        compared=len(inputs),
        entries=sum(_vector(first).size for _, first, _ in inputs),
        input_distance=max((_distance(_vector(first), _vector(second)) for _, first, second in inputs), default=0.0),
        output_distance=max((_distance(_curves(first), _curves(second)) for first, second in outputs), default=0.0),
    )


def _seen(record: PatientRecord, stands: AtRisk | NotAtRisk, predictor: Predictor) -> Seen:
    patient_id = str(record.person.patient_id)
    if isinstance(stands, NotAtRisk):
        return Seen(patient_id=patient_id, standing=stands.reason.value)
    model_input = assemble(build_timeline(record, (), stands), predictor.contract)
    return Seen(
        patient_id=patient_id,
        standing=stands.kind.value,
        landmark=stands.landmark.time,
        model_input=model_input,
        output=predictor.predict(model_input),
    )


def _masks_equal(one: ModelInput, other: ModelInput) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in _EXACT)


def _vector(model_input: ModelInput) -> NDArray[np.float64]:
    """Every number of the input behind each other."""
    arrays = [getattr(model_input, name).ravel() for name in _NEAR]
    return np.concatenate([*arrays, [model_input.years_since_surgery]]).astype(np.float64)


def _curves(output: ModelOutput) -> NDArray[np.float64]:
    return np.concatenate([getattr(output, name) for name in OUTPUTS]).astype(np.float64)


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).max())


def _progress(what: str, done: int, total: int) -> None:
    if done % SHOWN_EVERY == 0 or done == total:
        print(f"{what} {done} of {total}", file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as it is reported. resources: PUT into the server; training_rows: of the compared patients."""

    comparison: Comparison
    resources: int
    training_rows: int
    model: str
    store_seconds: float
    serve_seconds: float


def run(data: Path, sample: int | None) -> Run:
    """Start a HAPI of our own, send the cohort through it and compare."""
    terminology, predictor = load_terminology(), Predictor(load_bundle(shipped_bundle()))
    patients = spread(read_hancock(data / "hancock", terminology), sample)
    with TemporaryDirectory(prefix="adjuvant-parity-") as folder:
        print("starting HAPI", file=sys.stderr, flush=True)
        hapi = start_hapi(Path(folder))
        try:
            with FhirClient(hapi.base_url) as client:
                started = time.monotonic()
                resources = load_cohort(client, patients, terminology)
                stored = time.monotonic()
                served = tuple(as_served(client, patients, terminology, predictor))
                ended = time.monotonic()
        finally:
            hapi.process.stop()
    return Run(
        comparison=compare(as_trained(patients, predictor), served),
        resources=resources,
        training_rows=len(landmark_rows(patients, predictor.contract)),
        model=f"{predictor.identity.name} {predictor.identity.version}",
        store_seconds=stored - started,
        serve_seconds=ended - stored,
    )


def report(result: Run, command: str) -> str:
    """The page `docs/parity.md`."""
    found = result.comparison
    total, at_risk = found.standings.total(), found.compared
    skipped = total - at_risk
    distant = found.standings["distant-metastasis"]
    reasons = ", ".join(f"`{name}` {count}" for name, count in sorted(found.standings.items()))
    verdict = "Both sides agree." if found.holds else "**THE SIDES DIFFER: see the lines marked below.**"
    lines = [
        ("patients sent through FHIR", f"{total}", "", True),
        ("resources stored in HAPI", f"{result.resources:,}", "", True),
        ("standing as served", reasons, "", True),
        ("standing differs", _named(found.standing_differs), "0", not found.standing_differs),
        ("landmark differs (to the microsecond)", _named(found.landmark_differs), "0", not found.landmark_differs),
        ("masks differ", _named(found.masks_differ), "0", not found.masks_differ),
        ("input entries compared", f"{found.entries:,}", "", True),
        ("largest input difference", f"{found.input_distance:.1e}", f"{INPUT_BAR:.0e}",
         found.input_distance <= INPUT_BAR),
        ("largest output difference", f"{found.output_distance:.1e}", f"{OUTPUT_BAR:.0e}",
         found.output_distance <= OUTPUT_BAR),
    ]  # fmt: skip
    table = "\n".join(f"| {what} | {value} | {bar} | {'' if met else 'MISSED'} |" for what, value, bar, met in lines)
    return f"""# Training and serving see the same patient

Written by `{command}` with model {result.model}. {verdict}

Training reads the HANCOCK tables; the service reads a server. Here every patient takes both ways: once straight
from the table, once exported to FHIR R4, stored in HAPI FHIR 8.8 (transactions of PUTs), pulled page by page, decoded,
cut at the landmark and assembled as for a real patient. Times known are effective time plus the reporting delay, as
for any record that was migrated in bulk.

| what | found | at most | |
|---|---|---|---|
{table}

{skipped} patients are skipped on both sides, {distant} of them with distant metastasis at diagnosis: that is no surgery
with curative intent, they trained nothing, and the service says so instead of predicting. The other {at_risk} are
compared entry by entry; {result.training_rows} of these are training rows, the rest relapsed, died or were lost before
their landmark and are compared all the same. Storing took {result.store_seconds:.0f} s; pulling, decoding and
predicting {result.serve_seconds:.0f} s ({1000 * result.serve_seconds / total:.0f} ms a patient, one after the other).
"""


def _named(patients: tuple[str, ...]) -> str:
    return f"{len(patients)}" + (f" ({', '.join(patients[:10])})" if patients else "")


def main() -> None:
    """Run, write the page, exit 1 where the sides differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where to write the page; standard output without it")
    parser.add_argument("--sample", type=int, help="so many patients, spread over the file; all without it")
    arguments = parser.parse_args()
    data = os.environ.get("ADJUVANT_DATA")
    if not data or not (Path(data) / "hancock").is_dir():
        parser.error("ADJUVANT_DATA names no folder that holds hancock/")
    try:
        result = run(Path(data), arguments.sample)
    except PeerMissing as missing:
        parser.error(str(missing))
    sample = f" --sample {arguments.sample}" if arguments.sample else ""
    page = report(result, "make parity" if not sample else f"python -m benchmarks.parity{sample}")
    if arguments.out is None:
        print(page)
    else:
        arguments.out.write_text(page, encoding="utf-8")
    sys.exit(0 if result.comparison.holds else 1)


if __name__ == "__main__":
    main()
