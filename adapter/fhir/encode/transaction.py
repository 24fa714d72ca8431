"""All resources of one statement in one transaction, so ordered that nothing refers to what comes later."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.decision.policy import Policy
from adapter.domain.landmark import Landmark
from adapter.domain.outcome import Abstained, TransactionBundle
from adapter.domain.plan import CarePlanProposal
from adapter.domain.risk import ModelIdentity, RiskForecast
from adapter.fhir.delivery import Delivery, OutputMode
from adapter.fhir.encode.abstention import abstention_issue, failed_response
from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.encode.care_plan import care_plan, cited
from adapter.fhir.encode.detected_issue import detected_issue
from adapter.fhir.encode.device import device
from adapter.fhir.encode.guidance_response import guidance_response
from adapter.fhir.encode.model_card import model_card
from adapter.fhir.encode.provenance import provenance
from adapter.fhir.encode.review_task import review_task
from adapter.fhir.encode.risk_assessment import risk_assessment
from adapter.fhir.encode.statement import InputAccount, Statement, Subject, names_of
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
    names = names_of(
        forecast.model,
        forecast.landmark.time,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
        basis=forecast.basis,
    )
    assessment = Assessment(
        forecast=forecast,
        proposal=proposal,
        model=forecast.model,
        moment=forecast.landmark.time,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
        names=names,
    )
    issue = detected_issue(assessment)
    about_patient = [
        risk_assessment(assessment),
        care_plan(assessment),
        *([] if issue is None else [issue]),
        guidance_response(assessment),
        review_task(assessment, issue=None if issue is None else _reference(issue)),
    ]
    return _transaction(assessment, about_patient, cited(assessment))


def encode_abstention(
    abstained: Abstained,
    *,
    model: ModelIdentity,
    landmark: Landmark,
    subject: Subject,
    account: InputAccount,
    policy: Policy,
    delivery: Delivery,
    mode: OutputMode,
) -> TransactionBundle:
    """Write that nothing honest can be said, and why: an issue and a failed response, no forecast and no plan.

    Raises BadMapping and MalformedResource as `encode_transaction`.
    """
    names = names_of(
        model,
        landmark.time,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
        basis=(),
        ending=("abstained", abstained.reason),
    )
    statement = Statement(
        model=model,
        moment=landmark.time,
        subject=subject,
        account=account,
        policy=policy,
        delivery=delivery,
        mode=mode,
        names=names,
    )
    return _transaction(statement, [abstention_issue(statement, abstained), failed_response(statement, abstained)], ())


def _transaction(statement: Statement, about_patient: list[Json], evidence: Iterable[str]) -> TransactionBundle:
    """Card and Device first, then what is said of the patient, then whence it comes."""
    card = model_card(statement)
    targets = [_reference(one) for one in about_patient]
    resources = [
        *([] if card is None else [card]),
        device(statement),
        *about_patient,
        provenance(statement, targets, evidence),
    ]
    for resource in resources:
        require_r4(resource)
    entries = tuple(entry_of(canonical_json(resource)) for resource in resources)
    return TransactionBundle(
        assessment_id=statement.names.statement,
        content=transaction_by_id(entries, {}),
        resources=tuple(entry.reference for entry in entries),
    )


def _reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"
