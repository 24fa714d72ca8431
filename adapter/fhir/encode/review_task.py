"""The Task: a clinician is asked to look at the draft, by a day that follows from the landmark."""

from __future__ import annotations

from datetime import datetime, timedelta

from adapter.domain.plan import Timing
from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.encode.writing import instant, without_empty
from adapter.fhir.entries import Json


def review_task(assessment: Assessment, *, issue: str | None) -> Json:
    """Approve, change or refuse. issue: reference of the DetectedIssue that says why the board is asked."""
    delivery = assessment.delivery
    landmark = assessment.landmark
    return without_empty(
        {
            **assessment.named_head("Task", "ta"),
            "status": "requested",
            "intent": "order",
            "priority": "routine",
            "code": assessment.concept(None, delivery.codes["approve"]),
            "description": delivery.texts["task" if assessment.board is None else "board"],
            "focus": assessment.care_plan,
            "for": assessment.patient,
            "authoredOn": landmark,
            "lastModified": landmark,
            "requester": assessment.by_device,
            "reasonReference": None if issue is None else {"reference": issue},
            "restriction": {"period": {"start": landmark, "end": instant(_due(assessment))}},
            "input": [{"type": {"text": "RiskAssessment"}, "valueReference": assessment.risk_assessment}],
        }
    )


def _due(assessment: Assessment) -> datetime:
    """The table's days after the landmark, or the day radiotherapy should start where that comes first."""
    landmark = assessment.forecast.landmark.time
    latest = landmark + timedelta(days=assessment.delivery.review_days)
    starts = [
        regimen.start_by
        for regimen in assessment.proposal.regimens
        if regimen.start_by is not None and regimen.timing is Timing.ON_TIME
    ]
    return min([latest, *(start for start in starts if start > landmark)])
