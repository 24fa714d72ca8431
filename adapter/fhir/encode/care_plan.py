"""The CarePlan: a draft proposal of treatment and follow-up, each activity with its verdict, reason and evidence."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC

from adapter.decision.policy import Action, Coding, Policy, Visit
from adapter.decision.propose import ASSUMED
from adapter.decision.regimen import MONTHS, dose_words, drug_words, effect_words, effects_of
from adapter.domain.plan import (
    ActionVerdict,
    FollowUpVisit,
    Gate,
    RuleReason,
    Timing,
    TreatmentRegimen,
    Verdict,
)
from adapter.domain.risk import Outcome
from adapter.fhir.encode.assessment import Assessment, stop_words
from adapter.fhir.encode.openings import FOLLOW_UP
from adapter.fhir.encode.writing import day_in_words, instant, months_later, to_percent, versioned, without_empty
from adapter.fhir.entries import Json

_REASON_TYPES = frozenset({"Condition", "Observation", "DiagnosticReport", "DocumentReference"})
_PROPOSED = frozenset({Verdict.CONCORDANT, Verdict.OPTION, Verdict.CONTRAINDICATED})
_TIMING_WORDS = {
    Timing.ON_TIME: "Radiotherapy is to start within 6 weeks of surgery.",
    Timing.TARGET_PASSED: "The 6 weeks from surgery to radiotherapy are over.",
    Timing.LATE: "More than 12 weeks have passed since surgery.",
    Timing.UNKNOWN: "The time since surgery is not known.",
}
_GATE_WORDS = {
    Gate.SCOPE: "the rules cover the patient",
    Gate.GUIDELINE: "the guideline leaves a choice",
    Gate.COMPLETENESS: "inputs complete and readable",
    Gate.DISTRIBUTION: "patients like this one in the training data",
    Gate.OVERLAP: "enough of them with each treatment",
    Gate.BENEFIT: "a clear benefit",
}


def care_plan(assessment: Assessment) -> Json:
    """Draft and proposal: nothing becomes an order before a clinician has accepted it."""
    delivery = assessment.delivery
    return without_empty(
        {
            **assessment.named_head("CarePlan", "cp"),
            "instantiatesCanonical": [assessment.canonical("policy")],
            "instantiatesUri": [assessment.policy_uri],
            "status": "draft",
            "intent": "proposal",
            "category": [
                assessment.concept("Assessment and plan", delivery.codes["assess_plan"]),
                {"coding": [assessment.own_coding("postoperative-adjuvant")]},
            ],
            "title": delivery.texts["plan"],
            "description": _description(assessment),
            "subject": assessment.patient,
            "created": assessment.landmark,
            "author": assessment.by_device,
            "addresses": [versioned(source) for source in assessment.subject.conditions],
            "supportingInfo": [assessment.risk_assessment],
            "activity": [*_treatments(assessment), *_visits(assessment)],
            "note": [{"text": sentence} for sentence in _sentences(assessment)],
        }
    )


def _description(assessment: Assessment) -> str:
    concordant = [
        assessment.policy.action(entry.action).title
        for entry in assessment.proposal.actions
        if entry.verdict is Verdict.CONCORDANT
    ]
    group = f"Guideline risk group: {assessment.proposal.risk_group.value}."
    return f"{group} Concordant with the rules: {'; '.join(concordant) or 'nothing'}."


def cited(assessment: Assessment) -> frozenset[str]:
    """Ids of the evidence behind what is proposed and why."""
    proposal, policy = assessment.proposal, assessment.policy
    reasons = [*proposal.reasons]
    codes = {code for visit in proposal.follow_up for code in visit.evidence}
    for entry in proposal.actions:
        if entry.verdict in _PROPOSED:
            codes |= set(policy.action(entry.action).evidence)
            reasons += entry.reasons
    return frozenset(codes | {code for reason in reasons for code in reason.evidence})


# ---- notes


def _sentences(assessment: Assessment) -> Iterable[str]:
    proposal = assessment.proposal
    yield assessment.delivery.labels[assessment.mode]
    yield assessment.delivery.texts["review"]
    yield from (_sentence(reason) for reason in proposal.reasons)
    if proposal.gates:
        states = "; ".join(f"{_GATE_WORDS[one.gate]}: {one.state.value.replace('-', ' ')}" for one in proposal.gates)
        yield f"Asked in turn before treatments are compared: {states}."
    if (stop := assessment.stop) is not None:
        yield stop_words(stop)
    yield from _prediction_sentences(assessment)
    yield from _not_proposed(assessment)
    if any(visit.adapted for visit in proposal.follow_up):
        yield f"{FOLLOW_UP}{assessment.delivery.texts['adapted_all']}"
    if unverified := _unverified(assessment):
        yield f"Codes whose meaning still has to be verified: {'; '.join(unverified)}."


def _not_proposed(assessment: Assessment) -> Iterable[str]:
    """Each verdict once with all treatments that have it for the same reasons; what was said above is not repeated."""
    titles: dict[tuple[Verdict, str], list[str]] = {}
    for entry in assessment.proposal.actions:
        if entry.verdict not in _PROPOSED:
            own = (reason.sentence for reason in entry.reasons if not _said_of_the_whole(reason, assessment))
            words = " ".join((*own, *_uncertain_effects(entry, assessment))) or "The reason stands above."
            titles.setdefault((entry.verdict, words), []).append(assessment.policy.action(entry.action).title)
    for (verdict, words), named in titles.items():
        yield f"{verdict.value.replace('_', ' ').capitalize()}: {'; '.join(named)}. {words}"


def _said_of_the_whole(reason: RuleReason, assessment: Assessment) -> bool:
    """Whether the proposal's own reasons say it, or miss all that it misses."""
    reasons = assessment.proposal.reasons
    lacking = {feature for one in reasons for feature in one.missing}
    return reason.sentence in {one.sentence for one in reasons} or bool(
        reason.missing and lacking.issuperset(reason.missing)
    )


def _uncertain_effects(entry: ActionVerdict, assessment: Assessment) -> Iterable[str]:
    """Where the rules leave an action open, the trials' averages stand beside it, for the board to weigh."""
    if entry.verdict is Verdict.UNCERTAIN:
        action, group = assessment.policy.action(entry.action), assessment.proposal.risk_group
        yield from (effect_words(effect) for effect in effects_of(action, group, assessment.policy))


def _prediction_sentences(assessment: Assessment) -> Iterable[str]:
    """The model's own numbers, apart from the trials' and never under an action."""
    forecast, delivery = assessment.forecast, assessment.delivery
    if MONTHS not in forecast.landmark.horizons:
        return
    titles = {outcome: delivery.outcomes[outcome].title.lower() for outcome in Outcome}
    named = ", ".join(
        f"{title} {to_percent(forecast.probability(outcome, MONTHS))} %" for outcome, title in titles.items()
    )
    yield f"Model prediction at {MONTHS} months, whatever the treatment: {named}. {delivery.texts['effects']}"


def _unverified(assessment: Assessment) -> list[str]:
    policy, proposal = assessment.policy, assessment.proposal
    rows: list[Action | Visit] = [policy.action(entry.action) for entry in proposal.actions]
    rows += [policy.visit(visit.activity) for visit in proposal.follow_up]
    unverified = (row.coding for row in rows if row.coding and not row.coding.verified)
    return sorted({f"{coding.code} {coding.display or ''}".strip() for coding in unverified})


def _sentence(reason: RuleReason) -> str:
    """The sentence first; the rule's id, and what it rests on, are for whoever looks them up."""
    if reason.code.startswith(ASSUMED):
        return f"Assumed: {reason.sentence}"
    return f"{reason.sentence} [{', '.join((f'rule {reason.code}', *reason.evidence))}]"


# ---- treatments


def _treatments(assessment: Assessment) -> Iterable[Json]:
    proposed = (entry for entry in assessment.proposal.actions if entry.verdict in _PROPOSED)
    return ({"detail": _treatment(entry, assessment)} for entry in proposed)


def _treatment(entry: ActionVerdict, assessment: Assessment) -> Json:
    action = assessment.policy.action(entry.action)
    sources = {source for reason in entry.reasons for source in reason.sources}
    regimen = next((one for one in assessment.proposal.regimens if one.action == entry.action), None)
    return without_empty(
        {
            "kind": action.kind,
            "instantiatesCanonical": [assessment.canonical(action.code)],
            "instantiatesUri": [f"{assessment.policy_uri}#{entry.action}"],
            "code": _activity_code(action.title, action.code, action.coding, assessment),
            "reasonReference": [
                versioned(source) for source in sorted(sources) if source.resource_type in _REASON_TYPES
            ],
            "status": "not-started",
            "doNotPerform": entry.verdict is Verdict.CONTRAINDICATED,
            **_start_window(regimen, assessment),
            "description": _verdict_words(entry, action, regimen, assessment),
        }
    )


def _start_window(regimen: TreatmentRegimen | None, assessment: Assessment) -> Json:
    """The days in which radiotherapy would start in time; nothing where that time is over or not known."""
    if regimen is None or regimen.start_by is None or regimen.timing is not Timing.ON_TIME:
        return {}
    return {"scheduledPeriod": {"start": assessment.landmark, "end": instant(regimen.start_by)}}


def _verdict_words(
    entry: ActionVerdict, action: Action, regimen: TreatmentRegimen | None, assessment: Assessment
) -> str:
    words = " ".join(_reason_words(entry, assessment))
    evidence = f" Evidence: {', '.join(action.evidence)}." if action.evidence else ""
    spelled = "" if regimen is None else f" {' '.join(_regimen_words(regimen, assessment.policy))}"
    return f"{entry.verdict.value}: {words} {action.regimen}{evidence}{spelled}"


def _reason_words(entry: ActionVerdict, assessment: Assessment) -> Iterable[str]:
    """The reasons; findings that the whole proposal lacks are named in its notes, and not again here."""
    shared = [reason for reason in entry.reasons if reason.missing and _said_of_the_whole(reason, assessment)]
    if shared:
        yield "The rules cannot decide without the findings that are missing."
    yield from (reason.sentence for reason in entry.reasons if reason not in shared)


def _regimen_words(regimen: TreatmentRegimen, policy: Policy) -> Iterable[str]:
    """Dose, schedule, start and alternatives, then the trials' averages, which are named as such."""
    parts = [dose_words(regimen.radiotherapy)] if regimen.radiotherapy else []
    parts += [drug_words(drug) for drug in regimen.drugs]
    if parts:
        yield f"Prescription: {'; '.join(parts)}."
    if regimen.start_by is not None:
        yield _TIMING_WORDS[regimen.timing]
        if regimen.timing is Timing.ON_TIME:
            yield f"Start by {day_in_words(regimen.start_by.astimezone(UTC).date())} to meet the target."
    if regimen.alternatives:
        yield f"Also proposed by the rules: {'; '.join(policy.action(code).title for code in regimen.alternatives)}."
    for effect in regimen.effects:
        yield effect_words(effect)
    if regimen.radiotherapy is not None or regimen.drugs:
        yield f"Competing mortality: {regimen.competing}"


# ---- follow-up


def _visits(assessment: Assessment) -> Iterable[Json]:
    return ({"detail": _visit(visit, assessment)} for visit in assessment.proposal.follow_up)


def _visit(visit: FollowUpVisit, assessment: Assessment) -> Json:
    row = assessment.policy.visit(visit.activity)
    start, end = (
        instant(months_later(assessment.forecast.landmark.time, month))[:10]
        for month in (visit.first_month, visit.last_month)
    )
    period: Json = {"start": start, "end": end}
    repeat: Json = {"boundsPeriod": period, "frequency": 1, "period": visit.every_months, "periodUnit": "mo"}
    when: Json = {"scheduledTiming": {"repeat": repeat}} if visit.every_months else {"scheduledPeriod": period}
    return {
        "kind": row.kind,
        "instantiatesCanonical": [assessment.canonical(row.code)],
        "instantiatesUri": [f"{assessment.policy_uri}#{row.code}"],
        "code": _activity_code(row.activity, row.code, row.coding, assessment),
        "status": "not-started",
        "doNotPerform": False,
        **when,
        "description": _visit_words(visit, row, assessment.delivery.texts["adapted"]),
    }


def _visit_words(visit: FollowUpVisit, row: Visit, adapted: str) -> str:
    evidence = f"Evidence: {', '.join(visit.evidence)}."
    if not visit.adapted:
        return evidence
    table = f"The table says every {row.every_months} months; the guideline allows {row.least} to {row.most}."
    return f"{evidence} {adapted} {table}"


def _activity_code(title: str, code: str, coding: Coding | None, assessment: Assessment) -> Json:
    """Write the standard code where there is one, and always our own action id."""
    own: Json = {"system": assessment.delivery.systems["action"], "code": code}
    standard = [] if coding is None else [assessment.coding(coding)]
    return {"coding": [*standard, own], "text": title}
