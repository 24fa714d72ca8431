"""The pure middle of the walk: a record, images and a model in, a transaction out. No clock, no network, no disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from adapter.decision.interpret import interpret
from adapter.decision.propose import propose
from adapter.domain.imaging import DicomPatient, ImageDescriptors
from adapter.domain.outcome import Skipped, TransactionBundle
from adapter.domain.plan import CarePlanProposal
from adapter.domain.record import PatientRecord, Person, RawRecord
from adapter.domain.risk import AtRisk, NotAtRisk, RiskForecast
from adapter.errors import AmbiguousPatient, InvalidForecast
from adapter.features.assemble import assemble, missing_inputs
from adapter.features.at_risk import standing
from adapter.features.timeline import build_timeline
from adapter.fhir.decode import decode_record
from adapter.fhir.encode import account_of, encode_transaction, subject_of
from adapter.pipeline.ports import Predictor
from adapter.pipeline.practice import Practice
from inference.contract import ContractBreach

_DICOM_SEX = {"male": "M", "female": "F", "other": "O"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was computed and what will be written: the same numbers, once for people and once for the EHR."""

    forecast: RiskForecast
    proposal: CarePlanProposal
    bundle: TransactionBundle


def read_record(raw: RawRecord, practice: Practice, at: datetime | None) -> tuple[PatientRecord, AtRisk | NotAtRisk]:
    """Steps 6 and 7: decode the record and say whether the patient is at risk, and at which landmark.

    The record comes as the hospital stood at the landmark: a correction or refusal that became known later changes
    nothing.
    """
    record = decode_record(raw, practice.reading, at)
    stands = standing(record, practice.landmarks, at)
    if isinstance(stands, NotAtRisk):
        return record, stands
    return decode_record(raw, practice.reading, stands.landmark.time), stands


def skipped(not_at_risk: NotAtRisk) -> Skipped:
    """A patient who is not ours to assess, as the ledger writes it down."""
    return Skipped(reason=not_at_risk.reason.value, detail=not_at_risk.detail)


def decide(
    record: PatientRecord,
    at_risk: AtRisk,
    images: Iterable[ImageDescriptors],
    *,
    practice: Practice,
    predictor: Predictor,
) -> Decision:
    """Steps 13 to 18. Raises UnusableInput or InvalidForecast where nothing honest can be said."""
    contract = predictor.contract
    timeline = build_timeline(record, tuple(images), at_risk)
    model_input = assemble(timeline, contract)
    try:
        output = predictor.predict(model_input)
    except ContractBreach as error:
        raise InvalidForecast(str(error)) from error
    forecast = interpret(
        output,
        contract,
        identity=predictor.identity,
        at_risk=at_risk,
        timeline=timeline,
        missing=missing_inputs(model_input, contract),
    )
    terminology = practice.reading.terminology
    proposal = propose(forecast, timeline, practice.policy)
    bundle = encode_transaction(
        forecast,
        proposal,
        subject=subject_of(timeline, base_url=practice.base_url, preferred_system=practice.patient_system),
        account=account_of(
            timeline, practice.policy, mapping_digest=terminology.digest, vocabulary=terminology.features
        ),
        policy=practice.policy,
        delivery=practice.delivery,
        mode=practice.mode,
    )
    return Decision(forecast=forecast, proposal=proposal, bundle=bundle)


def dicom_patient(person: Person, system: str | None) -> DicomPatient:
    """Whom to ask the archive for.

    system: the FHIR identifier system that is the DICOM Patient ID. Raises AmbiguousPatient where it is not named
    and the patient has several identifiers, or where the named system holds none or several: a Patient ID is never
    guessed.
    """
    ids = [entry.value for entry in person.identifiers if system is None or entry.system == system]
    if len(ids) != 1:
        raise AmbiguousPatient(
            f"Patient/{person.patient_id} has {len(ids)} identifiers that may be the Patient ID of the archive: "
            "name pacs.patient_identifier_system"
        )
    birth = person.birth
    whole_day = birth is not None and (birth.latest - birth.earliest).days == 0 and birth.latest != birth.earliest
    return DicomPatient(
        patient_id=ids[0],
        birth_date=birth.midpoint.strftime("%Y%m%d") if birth is not None and whole_day else None,
        sex=_DICOM_SEX.get(person.sex),
    )
