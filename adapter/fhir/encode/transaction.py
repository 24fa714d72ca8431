"""All resources of one assessment in one transaction, so ordered that nothing refers to what comes later."""

from __future__ import annotations

from adapter.decision.policy import Policy
from adapter.domain.outcome import TransactionBundle
from adapter.domain.plan import CarePlanProposal
from adapter.domain.risk import RiskForecast
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.encode.assessment import Assessment, InputAccount, Subject, assessment_of
from adapter.fhir.encode.care_plan import care_plan
from adapter.fhir.encode.detected_issue import detected_issue
from adapter.fhir.encode.device import device
from adapter.fhir.encode.guidance_response import guidance_response
from adapter.fhir.encode.model_card import model_card
from adapter.fhir.encode.provenance import provenance
from adapter.fhir.encode.review_task import review_task
from adapter.fhir.encode.risk_assessment import risk_assessment
from adapter.fhir.encode.structure import require_r4
from adapter.fhir.entries import Json, canonical_json, entry_of, transaction_by_id


def encode_transaction(
    forecast: RiskForecast,
    proposal: CarePlanProposal,
    *,
    subject: Subject,
    account: InputAccount,
    policy: Policy,
    delivery: Delivery,
    mode: OutputMode,
) -> TransactionBundle:
    """Write one assessment as a transaction of PUTs under ids of our own.

    Raises BadMapping for an unverified code in live mode, MalformedResource for a resource that is not R4.
    """
    assessment = assessment_of(
        forecast, proposal, subject=subject, account=account, policy=policy, delivery=delivery, mode=mode
    )
    resources = _resources(assessment)
    for resource in resources:
        require_r4(resource)
    entries = tuple(entry_of(canonical_json(resource)) for resource in resources)
    return TransactionBundle(
        assessment_id=assessment.assessment_id,
        content=transaction_by_id(entries, {}),
        resources=tuple(entry.reference for entry in entries),
    )


def _resources(assessment: Assessment) -> list[Json]:
    card, issue = model_card(assessment), detected_issue(assessment)
    about_system = [*([] if card is None else [card]), device(assessment)]
    about_patient = [
        risk_assessment(assessment),
        care_plan(assessment),
        *([] if issue is None else [issue]),
        guidance_response(assessment),
        review_task(assessment, issue=None if issue is None else _reference(issue)),
    ]
    return [*about_system, *about_patient, provenance(assessment, [_reference(one) for one in about_patient])]


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"
