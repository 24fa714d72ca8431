"""The GuidanceResponse: how the call ended, and which data would have settled what stayed open."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.fhir.encode.assessment import Assessment, stop_words
from adapter.fhir.encode.writing import without_empty
from adapter.fhir.entries import Json

_OBSERVATION = "Observation"


def guidance_response(assessment: Assessment) -> Json:
    """`data-required` where a rule could not be assessed for want of data, each want listed; else `success`."""
    missing = missing_features(assessment)
    return without_empty(
        {
            **assessment.named_head("GuidanceResponse", "gr"),
            "moduleCanonical": assessment.canonical("policy"),
            "status": "data-required" if missing else "success",
            "subject": assessment.patient,
            "occurrenceDateTime": assessment.landmark,
            "performer": assessment.by_device,
            "note": [{"text": sentence} for sentence in _sentences(assessment)],
            "result": assessment.care_plan,
            "dataRequirement": [_requirement(feature, assessment) for feature in missing],
        }
    )


def missing_features(assessment: Assessment) -> tuple[str, ...]:
    """The features whose absence left a rule open, sorted."""
    proposal = assessment.proposal
    return tuple(sorted({feature for reason in proposal.reasons for feature in reason.missing}))


def _sentences(assessment: Assessment) -> Iterable[str]:
    yield assessment.delivery.labels[assessment.mode]
    if (stop := assessment.stop) is not None:
        yield stop_words(stop)


def _requirement(feature: str, assessment: Assessment) -> Json:
    """Ask for a feature in the standard codes the site maps to it, and always under our own name."""
    own: Json = {
        "system": assessment.delivery.systems["feature"],
        "code": feature,
        "display": assessment.policy.asked_for(feature),
    }
    known = assessment.account.vocabulary.get(feature)
    standard = [] if known is None else [code for code in known.codes if code.status == "verified"]
    codes = [*({"system": code.system, "code": code.code} for code in standard), own]
    resource_type = assessment.delivery.resource_types.get(feature, _OBSERVATION)
    return {"type": resource_type, "codeFilter": [{"path": "code", "code": codes}]}
