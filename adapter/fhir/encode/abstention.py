"""What stands in the EHR where no assessment could be made: an issue with the reason, and a response that failed."""

from __future__ import annotations

from adapter.domain.outcome import Abstained
from adapter.fhir.encode.statement import Statement
from adapter.fhir.encode.writing import versioned
from adapter.fhir.entries import Json

_KIND = "conflicting-data"  # something was sent, and no forecast can be made of it


def abstention_issue(statement: Statement, abstained: Abstained) -> Json:
    """High, for the patient has no assessment; evidence is every version that was read."""
    return {
        **statement.named_head("DetectedIssue", "di"),
        "status": "final",
        "code": {
            "coding": [statement.own_coding(abstained.reason), statement.own_coding(_KIND)],
            "text": statement.delivery.texts["abstained"],
        },
        "severity": "high",
        "patient": statement.patient,
        "identifiedDateTime": statement.landmark,
        "author": statement.by_device,
        "evidence": [{"detail": [versioned(source)]} for source in statement.names.inputs],
        "detail": f"{statement.delivery.texts['abstained']} {abstained.reason}: {abstained.detail}",
    }


def failed_response(statement: Statement, abstained: Abstained) -> Json:
    """The call ended without a result."""
    return {
        **statement.named_head("GuidanceResponse", "gr"),
        "moduleCanonical": statement.canonical("policy"),
        "status": "failure",
        "subject": statement.patient,
        "occurrenceDateTime": statement.landmark,
        "performer": statement.by_device,
        "note": [
            {"text": statement.delivery.labels[statement.mode]},
            {"text": f"{statement.delivery.texts['abstained']} {abstained.reason}: {abstained.detail}"},
        ],
    }
