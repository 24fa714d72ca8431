"""The RiskAssessment: each outcome at each horizon, in percent, with its band and what drives it."""

from __future__ import annotations

from collections.abc import Iterable

from adapter.domain.risk import CumulativeIncidence, Drivers, Outcome
from adapter.features.assemble import IMAGE
from adapter.fhir.encode.assessment import Assessment
from adapter.fhir.encode.openings import BASIS, RANGE, UNUSUAL
from adapter.fhir.encode.writing import instant, months_later, to_percent, to_points, versioned, without_empty
from adapter.fhir.entries import Json

# Extension of a prediction: Range in percent. Source: HL7 AI Transparency on FHIR (hl7.fhir.uv.aitransparency),
# AIconfidence.fsh at commit 094c5499 of its repository: valueRange is the interval of the result it stands on.
AI_CONFIDENCE = "http://hl7.org/fhir/uv/aitransparency/StructureDefinition/AIconfidence"
_MOST_DRIVERS = 5
_EXPLAINED = frozenset({Outcome.RECURRENCE, Outcome.DEATH})


def risk_assessment(assessment: Assessment) -> Json:
    """The forecast at the landmark, preliminary until a clinician signs it."""
    forecast, delivery = assessment.forecast, assessment.delivery
    model = forecast.model
    return without_empty(
        {
            **assessment.named_head("RiskAssessment", "ra"),
            "status": "preliminary",
            "method": {
                "coding": [{"system": delivery.systems["model"], "code": f"{model.name}-{model.version}"}],
                "text": delivery.texts["method"],
            },
            "code": {"coding": [assessment.own_coding("prognosis")], "text": delivery.texts["prognosis"]},
            "subject": assessment.patient,
            "occurrenceDateTime": assessment.landmark,
            "condition": next((versioned(source) for source in assessment.subject.conditions), None),
            "performer": assessment.by_device,
            "basis": [versioned(source) for source in forecast.basis],
            "prediction": [_prediction(entry, assessment) for entry in forecast.incidences],
            "note": [{"text": sentence} for sentence in _sentences(assessment)],
        }
    )


def _prediction(incidence: CumulativeIncidence, assessment: Assessment) -> Json:
    wording = assessment.delivery.outcomes[incidence.outcome]
    end = months_later(assessment.forecast.landmark.time, incidence.horizon)
    written: Json = {
        **_band(incidence),
        "outcome": assessment.concept(wording.title, wording.coding),
        "probabilityDecimal": to_percent(incidence.probability),
        "whenPeriod": {"start": assessment.landmark, "end": instant(end)},
    }
    rationale = _rationale(assessment.forecast.drivers, incidence)
    return written if rationale is None else {**written, "rationale": rationale}


def _band(incidence: CumulativeIncidence) -> Json:
    """The extension of a prediction whose model says how sure it is, else nothing."""
    if incidence.low is None or incidence.high is None:
        return {}
    ends = {
        name: {"value": to_percent(end), "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
        for name, end in (("low", incidence.low), ("high", incidence.high))
    }
    return {"extension": [{"url": AI_CONFIDENCE, "valueRange": ends}]}


def _sentences(assessment: Assessment) -> Iterable[str]:
    """Say how far the numbers carry, what was missing, and what was read but not used."""
    forecast, delivery, account = assessment.forecast, assessment.delivery, assessment.account
    yield delivery.labels[assessment.mode]
    if account.basis:
        yield f"{BASIS}{account.basis}."
    yield delivery.texts["limits"]
    yield f"Model trained on {forecast.model.training_data} data."
    if forecast.drivers is not None:
        yield delivery.texts["drivers"]
    if forecast.typicality is not None:
        yield _likeness(forecast.typicality, assessment)
    if banded := [_band_in_words(one, assessment) for one in forecast.incidences if one.low is not None]:
        yield f"{RANGE}{'; '.join(banded)}."
    missing = ", ".join(map(assessment.policy.asked_for, forecast.missing)) or "none"
    yield f"Model inputs not known at the landmark: {missing}."
    unused = ", ".join(f"{reason} {count}" for reason, count in account.quarantined) or "none"
    yield f"Entries read and not used, by reason: {unused}."
    yield f"{_retrieved(assessment)} {_use_of_images(assessment)}"


def _likeness(typicality: float, assessment: Assessment) -> str:
    """How many training patients lie as far out; said as a warning where they are few."""
    limits, alike = assessment.policy.gates, to_percent(typicality)
    if typicality >= limits.unusual_typicality:
        return f"Patients in the training data whose findings are at least as unusual: {alike} %."
    least = to_percent(limits.least_typicality)
    words = f"{UNUSUAL}only {alike} % of the patients in the training data have findings at least as unusual"
    if typicality < limits.least_typicality:
        return f"{words}, fewer than the {least} % from which on the forecast may be relied on."
    return f"{words}. Lean on the forecast with care; below {least} % it is not to be relied on."


def _retrieved(assessment: Assessment) -> str:
    modalities = [image.modality for image in assessment.account.images]
    if not modalities:
        return "No image series was retrieved."
    return f"{', '.join(sorted(set(modalities)))} retrieved and checked: {len(modalities)} series."


def _use_of_images(assessment: Assessment) -> str:
    """Whether the model read one. Only a model that reads images leaves an answer of its encoder or misses one."""
    if IMAGE in assessment.forecast.missing:
        return "This model uses images, and made this forecast without one."
    if any(image.embedding for image in assessment.account.images):
        return "This model used the newest."
    return "This model does not use images."


def _band_in_words(incidence: CumulativeIncidence, assessment: Assessment) -> str:
    """One band; only its ends, for the number between them stands in its prediction."""
    title = assessment.delivery.outcomes[incidence.outcome].title.lower()
    low, high = (to_percent(end or 0.0) for end in (incidence.low, incidence.high))
    return f"{title} at {incidence.horizon} months {low} to {high} %"


def _rationale(drivers: Drivers | None, incidence: CumulativeIncidence) -> str | None:
    """Say what drove this prediction: at most five groups, whole percentage points; None where nothing explains it.

    Source: FHIR R4, RiskAssessment.prediction.rationale.
    """
    outcome = incidence.outcome
    if drivers is None or drivers.horizon != incidence.horizon or outcome not in _EXPLAINED:
        return None
    points = [(entry.name, to_points(entry.change(outcome))) for entry in drivers.largest(outcome)]
    moving = [(name, change) for name, change in points if change != 0]
    if not moving:
        return "No single group of findings changes this risk by one percentage point."
    named = "; ".join(f"{name} {change:+d}" for name, change in moving[:_MOST_DRIVERS])
    alone, together = (
        to_points(total)
        for total in (sum(entry.change(outcome) for entry in drivers.entries), drivers.together(outcome))
    )
    return (
        f"Change of this risk by what is known, in percentage points: {named}. "
        f"Single changes of all groups add up to {alone:+d}, all findings together change it by {together:+d}."
    )
