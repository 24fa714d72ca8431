"""The DetectedIssue: why the assessment stopped, on which inputs, and what would settle it."""

from __future__ import annotations

from adapter.domain.ids import ResourceVersion
from adapter.domain.plan import GateOutcome
from adapter.fhir.delivery import IssueWording
from adapter.fhir.encode.assessment import Assessment, stop_words
from adapter.fhir.encode.writing import versioned, without_empty
from adapter.fhir.entries import Json

_MODERATE = "moderate"


def detected_issue(assessment: Assessment) -> Json | None:
    """One for the gate that stopped; None where all passed, or where the rules have settled the matter by themselves.

    severity: of the table's row; where a settled matter still goes to the tumour board, `moderate`.
    """
    stop = assessment.stop
    if stop is None:
        return None
    wording = assessment.delivery.issues[stop.code]
    severity = wording.severity or (_MODERATE if assessment.board is not None else None)
    return None if severity is None else _written(stop, wording, severity, assessment)


def _written(stop: GateOutcome, wording: IssueWording, severity: str, assessment: Assessment) -> Json:
    return without_empty(
        {
            **assessment.named_head("DetectedIssue", "di"),
            "status": "final",
            "code": {
                "coding": [assessment.own_coding(stop.code), assessment.own_coding(wording.kind)],
                "text": stop.sentence,
            },
            "severity": severity,
            "patient": assessment.patient,
            "identifiedDateTime": assessment.landmark,
            "author": assessment.by_device,
            "implicated": [assessment.risk_assessment, assessment.care_plan],
            "evidence": [{"detail": [versioned(source)]} for source in _sources(assessment)],
            "detail": stop_words(stop),
        }
    )


def _sources(assessment: Assessment) -> tuple[ResourceVersion, ...]:
    """What the reasons read; where no reason read anything, every input, for something among them is amiss."""
    proposal, board = assessment.proposal, assessment.board
    reasons = [*proposal.reasons, *(board.reasons if board else ())]
    return tuple(sorted({source for reason in reasons for source in reason.sources})) or assessment.names.inputs
