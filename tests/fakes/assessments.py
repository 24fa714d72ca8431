"""Whole assessments as transactions: what the FHIR tests, the validators and HAPI are given."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from adapter.decision.policy import Policy, load_policy
from adapter.decision.propose import propose
from adapter.decision.tables import SHIPPED
from adapter.domain.ids import PatientId, SeriesUid, StudyUid
from adapter.domain.imaging import ImageDescriptors
from adapter.domain.outcome import Abstained, TransactionBundle
from adapter.domain.period import Period
from adapter.domain.timeline import Timeline
from adapter.fhir.delivery import Delivery, OutputMode, load_delivery
from adapter.fhir.encode import account_of, encode_abstention, encode_transaction, subject_of
from adapter.fhir.entries import entries_of
from inference.contract import ModelOutput
from tests.fakes.postoperative import LANDMARK, SURGERY, forecast, timeline

BASE_URL = "http://127.0.0.1:8080/fhir"
MAPPING_DIGEST = "cd" * 32


def complete_records() -> Policy:
    """The shipped policy at a site that declares its records complete, as the sandbox hospital does."""
    return load_policy(site_folder=SHIPPED / "sandbox")


def assessment(
    patient: Timeline | None = None,
    *,
    policy: Policy | None = None,
    mode: OutputMode = OutputMode.RESEARCH,
    patient_id: str = "p1",
    missing: tuple[str, ...] = ("hgb",),
    output: ModelOutput | None = None,
    delivery: Delivery | None = None,
) -> TransactionBundle:
    """One assessment, written the way the service writes it."""
    patient = patient or timeline()
    patient = replace(patient, person=replace(patient.person, patient_id=PatientId(patient_id)))
    policy = policy or load_policy()
    risk = forecast(patient, output=output, missing=missing)
    return encode_transaction(
        risk,
        propose(risk, patient, policy),
        subject=subject_of(patient, base_url=BASE_URL),
        account=account_of(patient, policy, mapping_digest=MAPPING_DIGEST),
        policy=policy,
        delivery=delivery or load_delivery(),
        mode=mode,
    )


def abstention(*, landmark: datetime = LANDMARK) -> TransactionBundle:
    """What is written where the model's answer was no forecast."""
    patient, policy = timeline(landmark=landmark), load_policy()
    return encode_abstention(
        Abstained(reason="invalid-forecast", detail="recurrence holds NaN"),
        model=forecast(patient).model,
        landmark=patient.landmark,
        subject=subject_of(patient, base_url=BASE_URL),
        account=account_of(patient, policy, mapping_digest=MAPPING_DIGEST),
        policy=policy,
        delivery=load_delivery(),
        mode=OutputMode.RESEARCH,
    )


def image() -> ImageDescriptors:
    """One CT series as it enters the timeline."""
    return ImageDescriptors(
        series_uid=SeriesUid("1.2.3.4"),
        study_uid=StudyUid("1.2.3"),
        modality="CT",
        acquired=Period.instant(SURGERY),
        known=SURGERY,
        digest="ef" * 32,
        values=(("slices", 140.0),),
    )


def resources_of(bundle: TransactionBundle) -> dict[str, bytes]:
    """Each resource by its type, as canonical JSON."""
    return {entry.resource_type: entry.content for entry in entries_of(bundle.content)}
