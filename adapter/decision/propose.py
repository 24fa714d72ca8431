"""Forecast and timeline -> care-plan proposal: what the rules allow, what they forbid, and when to ask the board.

The model's risk never moves a verdict: a prognosis from observational data is no treatment effect (clinical.md 2f).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from adapter.decision.findings import assumed, findings_at, findings_given
from adapter.decision.policy import (
    CISPLATIN_BORDERLINE,
    CISPLATIN_OK,
    CISPLATIN_UNSUITABLE,
    HIGH,
    IN_SCOPE,
    INTERMEDIATE,
    Action,
    Policy,
    Rule,
    Visit,
)
from adapter.decision.rules import Compared, Condition, Every, Finding, Findings, OneOf, Some, Unless, judge
from adapter.domain.ids import ResourceVersion
from adapter.domain.period import Period
from adapter.domain.plan import ActionVerdict, CarePlanProposal, FollowUpVisit, RiskGroup, RuleReason, Verdict
from adapter.domain.risk import RiskForecast
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState

_DAYS_PER_MONTH = 365.25 / 12
_TUMOUR_BOARD = "MDT"
_SCOPE_WORDS = {TriState.TRUE: "in", TriState.FALSE: "out", TriState.UNKNOWN: "unknown"}
_ADVICE_AGAINST = frozenset({Verdict.DISCORDANT, Verdict.CONTRAINDICATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the rules say about one set of findings. actions: every action of the closed set, in table order."""

    scope: TriState
    risk_group: RiskGroup
    actions: tuple[ActionVerdict, ...]
    reasons: tuple[RuleReason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One line of `policy show`: what it is, when it holds, what it rests on."""

    kind: str
    code: str
    title: str
    condition: str
    verdict: str
    evidence: tuple[str, ...]
    source: str


def propose(forecast: RiskForecast, timeline: Timeline, policy: Policy) -> CarePlanProposal:
    """Propose for the forecast's landmark. Whatever the rules cannot settle goes to the tumour board.

    Once adjuvant treatment has started, or its time is over, no treatment is proposed any more, only follow-up.
    """
    findings = findings_at(timeline, policy)
    closed = _adjuvant_question_closed(timeline, policy)
    decision = decide(findings, policy) if closed is None else _closed_decision(closed, policy)
    assumptions = tuple(
        RuleReason(code=f"ASSUMED-{assumption.feature}", sentence=assumption.sentence)
        for assumption in assumed(findings, policy)
    )
    return CarePlanProposal(
        patient_id=forecast.patient_id,
        landmark=forecast.landmark,
        scope=decision.scope,
        risk_group=decision.risk_group,
        actions=decision.actions,
        follow_up=() if closed is None and decision.scope is TriState.FALSE else _schedule(timeline, policy),
        reasons=(*decision.reasons, *assumptions),
        policy_version=policy.version,
    )


def evaluate_features(features: Mapping[str, object], landmark: datetime, policy: Policy) -> Decision:
    """Decide on named features, as in `policy try`; an absent key is unknown. Raises UnusableInput naming a key."""
    return decide(findings_given(features, landmark, policy), policy)


def decide(findings: Findings, policy: Policy) -> Decision:
    """Judge scope, risk group and every action. More findings settle more and overturn nothing."""
    scope = judge(policy.rules[IN_SCOPE].when, findings).truth
    group = _risk_group(findings, policy) if scope is TriState.TRUE else RiskGroup.UNKNOWN
    return Decision(
        scope=scope,
        risk_group=group,
        actions=tuple(_verdict_on(action, scope, findings, policy) for action in policy.actions),
        reasons=tuple(_reasons(scope, findings, policy)),
    )


def summary(decision: Decision) -> Mapping[str, object]:
    """Write a decision the way `policy try --json` prints it: scope in, out or unknown; a verdict per action."""
    return {
        "scope": _SCOPE_WORDS[decision.scope],
        "risk_group": decision.risk_group.value,
        "actions": {entry.action: entry.verdict.value for entry in decision.actions},
        "reasons": [
            {"code": reason.code, "sentence": reason.sentence, "evidence": list(reason.evidence)}
            for reason in decision.reasons
        ],
    }


def policy_table(policy: Policy) -> tuple[PolicyRow, ...]:
    """Return every rule, flag, action line and follow-up row as it is in force, thresholds filled in."""
    rules = [
        PolicyRow(
            kind="rule",
            code=rule.code,
            title=rule.title,
            condition=_in_words(rule.when),
            verdict="",
            evidence=rule.evidence,
            source=rule.source,
        )
        for rule in (*policy.rules.values(), *policy.flags)
    ]
    actions = [
        PolicyRow(
            kind="action",
            code=action.code,
            title=action.title,
            condition=condition,
            verdict=verdict.value,
            evidence=action.evidence,
            source=action.source,
        )
        for action in policy.actions
        for condition, verdict in (
            *((_in_words(line.when), line.verdict) for line in action.lines),
            ("otherwise", action.otherwise),
        )
    ]
    visits = [
        PolicyRow(
            kind="follow-up",
            code=visit.code,
            title=visit.activity,
            condition=f"months {visit.first_month} to {visit.last_month} after surgery",
            verdict=f"every {visit.every_months} months" if visit.every_months else "once",
            evidence=visit.evidence,
            source="",
        )
        for visit in policy.visits
    ]
    return (*rules, *actions, *visits)


# ---- verdicts


def _risk_group(findings: Findings, policy: Policy) -> RiskGroup:
    high = judge(policy.rules[HIGH].when, findings).truth
    intermediate = judge(policy.rules[INTERMEDIATE].when, findings).truth
    if high is TriState.TRUE:
        return RiskGroup.HIGH
    if high is TriState.UNKNOWN or intermediate is TriState.UNKNOWN:
        return RiskGroup.UNKNOWN
    return RiskGroup.INTERMEDIATE if intermediate is TriState.TRUE else RiskGroup.LOW


def _verdict_on(action: Action, scope: TriState, findings: Findings, policy: Policy) -> ActionVerdict:
    if scope is TriState.FALSE:
        return ActionVerdict(action=action.code, verdict=action.out_of_scope, reasons=_scope_reasons(findings, policy))
    if scope is TriState.UNKNOWN:
        return ActionVerdict(action=action.code, verdict=action.undecided, reasons=_scope_reasons(findings, policy))
    return _verdict_in_scope(action, findings)


def _verdict_in_scope(action: Action, findings: Findings) -> ActionVerdict:
    """Walk the decision list, keeping every verdict that unknown lines leave possible; decide where they agree.

    What stays possible only shrinks with more findings, so a missing one can never buy a recommendation.
    """
    possible: list[tuple[Verdict, RuleReason]] = []
    missing: set[str] = set()
    for line in action.lines:
        judged = judge(line.when, findings)
        missing |= judged.missing if judged.truth is TriState.UNKNOWN else set()
        if judged.truth is not TriState.FALSE:
            reason = RuleReason(
                code=action.code, sentence=line.sentence, evidence=action.evidence, sources=judged.sources
            )
            possible.append((line.verdict, reason))
        if judged.truth is TriState.TRUE:
            break
    else:
        otherwise = RuleReason(code=action.code, sentence=action.otherwise_sentence, evidence=action.evidence)
        possible.append((action.otherwise, otherwise))
    verdicts = {verdict for verdict, _ in possible}
    if len(verdicts) == 1:
        return ActionVerdict(action=action.code, verdict=verdicts.pop(), reasons=(possible[-1][1],))
    undecided = _cannot_assess(action.code, action.title, missing, findings)
    verdict = Verdict.DISCORDANT if verdicts <= _ADVICE_AGAINST else action.undecided
    return ActionVerdict(action=action.code, verdict=verdict, reasons=(undecided,))


# ---- reasons


def _reasons(scope: TriState, findings: Findings, policy: Policy) -> Iterable[RuleReason]:
    """Scope first; within scope the risk group, then cisplatin, then the flags."""
    yield from _scope_reasons(findings, policy)
    if scope is TriState.TRUE:
        high = judge(policy.rules[HIGH].when, findings).truth
        yield from _part_reasons(policy.rules[HIGH], high, findings, policy)
        if high is not TriState.TRUE:
            intermediate = judge(policy.rules[INTERMEDIATE].when, findings).truth
            yield from _part_reasons(policy.rules[INTERMEDIATE], intermediate, findings, policy)
        yield from _cisplatin_reasons(findings, policy)
    for flag in policy.flags:
        judged = judge(flag.when, findings)
        if judged.truth is TriState.TRUE:
            yield RuleReason(code=flag.code, sentence=flag.sentence, sources=judged.sources)


def _scope_reasons(findings: Findings, policy: Policy) -> tuple[RuleReason, ...]:
    """What puts the patient outside, else what keeps the scope open, else nothing."""
    parts = [policy.rules[code] for code in policy.rules[IN_SCOPE].parts]
    judged = [(rule, judge(rule.when, findings)) for rule in parts]
    outside = tuple(
        RuleReason(code=rule.code, sentence=rule.violated, evidence=rule.evidence, sources=judgement.sources)
        for rule, judgement in judged
        if judgement.truth is TriState.FALSE
    )
    return outside or tuple(
        _cannot_assess(rule.code, rule.title, judgement.missing, findings)
        for rule, judgement in judged
        if judgement.truth is TriState.UNKNOWN
    )


def _part_reasons(whole: Rule, truth: TriState, findings: Findings, policy: Policy) -> Iterable[RuleReason]:
    """Name the parts that made the whole true or left it open; a false whole needs no words."""
    if truth is TriState.UNKNOWN:
        yield _cannot_assess(whole.code, whole.title, judge(whole.when, findings).missing, findings)
    for code in whole.parts:
        rule = policy.rules[code]
        judged = judge(rule.when, findings)
        if truth is TriState.TRUE and judged.truth is TriState.TRUE:
            yield RuleReason(code=code, sentence=rule.sentence, evidence=rule.evidence, sources=judged.sources)


def _cisplatin_reasons(findings: Findings, policy: Policy) -> Iterable[RuleReason]:
    """The verdict of the chosen panel, which is always named."""
    suitable, unsuitable, borderline = (
        judge(policy.rules[code].when, findings) for code in (CISPLATIN_OK, CISPLATIN_UNSUITABLE, CISPLATIN_BORDERLINE)
    )
    evidence = policy.rules[CISPLATIN_OK].evidence
    if suitable.truth is TriState.TRUE:
        sentence = f"Suitable for cisplatin by {policy.panel}; not checked: {policy.panel_not_checked}."
        yield RuleReason(code=CISPLATIN_OK, sentence=sentence, evidence=evidence, sources=suitable.sources)
    elif unsuitable.truth is TriState.TRUE or borderline.truth is TriState.TRUE:
        code = CISPLATIN_UNSUITABLE if unsuitable.truth is TriState.TRUE else CISPLATIN_BORDERLINE
        yield RuleReason(code=code, sentence=f"Cisplatin judged by {policy.panel}.", evidence=evidence)
        yield from _part_reasons(policy.rules[code], TriState.TRUE, findings, policy)
    else:
        yield _cannot_assess(CISPLATIN_OK, f"cisplatin by {policy.panel}", suitable.missing, findings)


def _cannot_assess(code: str, title: str, missing: Iterable[str], findings: Findings) -> RuleReason:
    named = ", ".join(_missing_words(feature, findings.get(feature)) for feature in sorted(missing))
    return RuleReason(code=code, sentence=f"Cannot assess {title}: {named} missing.")


def _missing_words(feature: str, finding: Finding | None) -> str:
    """A finding that is there and still does not answer is too old or too vague."""
    return feature if finding is None else f"a recent and exact {feature}"


# ---- when the adjuvant question is closed


def _adjuvant_question_closed(timeline: Timeline, policy: Policy) -> RuleReason | None:
    """Say why no adjuvant treatment is to be proposed any more; None while the question is open."""
    surgery = timeline.index_surgery.performed
    started = tuple(sorted(source for given, source in _adjuvant_treatments(timeline) if _after(given, surgery)))
    if started:
        sentence = "Adjuvant treatment has started; only follow-up is proposed."
        return RuleReason(code="ADJUVANT-STARTED", sentence=sentence, sources=started)
    if (timeline.landmark.time - surgery.latest).days > policy.adjuvant_closed_days:
        days = round(policy.adjuvant_closed_days)
        sentence = f"More than {days} days have passed since surgery; only follow-up is proposed."
        return RuleReason(code="ADJUVANT-CLOSED", sentence=sentence, sources=(timeline.index_surgery.source,))
    return None


def _adjuvant_treatments(timeline: Timeline) -> Iterable[tuple[Period, ResourceVersion]]:
    """Radiotherapy and the named anticancer drugs; any other drug says nothing about adjuvant treatment."""
    for procedure in timeline.procedures:
        if procedure.kind == "radiotherapy_course":
            yield procedure.performed, procedure.source
    for medication in timeline.medications:
        if medication.ingredient != "other":
            yield medication.given, medication.source


def _after(given: Period, surgery: Period) -> bool:
    return given.earliest > surgery.latest


def _closed_decision(reason: RuleReason, policy: Policy) -> Decision:
    """Every treatment out of scope; the board stays an option, for nothing is in doubt."""
    return Decision(
        scope=TriState.FALSE,
        risk_group=RiskGroup.UNKNOWN,
        actions=tuple(
            ActionVerdict(
                action=action.code,
                verdict=Verdict.OPTION if action.code == _TUMOUR_BOARD else Verdict.OUT_OF_SCOPE,
                reasons=(reason,),
            )
            for action in policy.actions
        ),
        reasons=(reason,),
    )


# ---- follow-up


def _schedule(timeline: Timeline, policy: Policy) -> tuple[FollowUpVisit, ...]:
    """Move the table from months after surgery to months after the landmark; what is past is left out."""
    elapsed = int((timeline.landmark.time - timeline.index_surgery.performed.latest).days / _DAYS_PER_MONTH)
    return tuple(
        _from_now(visit, elapsed) for visit in policy.visits if _next_month(visit, elapsed) <= visit.last_month
    )


def _from_now(visit: Visit, elapsed: int) -> FollowUpVisit:
    return FollowUpVisit(
        activity=visit.code,
        first_month=_next_month(visit, elapsed) - elapsed,
        last_month=visit.last_month - elapsed,
        every_months=visit.every_months,
        evidence=visit.evidence,
    )


def _next_month(visit: Visit, elapsed: int) -> int:
    """Return the next month after surgery in which the activity is due, never one that is past."""
    if visit.first_month > elapsed:
        return visit.first_month
    if not visit.every_months:
        return elapsed + 1
    done = (elapsed - visit.first_month) // visit.every_months + 1
    return visit.first_month + done * visit.every_months


# ---- conditions in words


def _in_words(condition: Condition) -> str:
    match condition:
        case Every(parts):
            return "(" + " and ".join(_in_words(part) for part in parts) + ")"
        case Some(parts):
            return "(" + " or ".join(_in_words(part) for part in parts) + ")"
        case Unless(part):
            return f"not {_in_words(part)}"
        case OneOf():
            return f"{condition.feature} is {' or '.join(sorted(condition.categories))}"
        case Compared():
            return f"{condition.feature} {condition.relation.value.replace('_', ' ')} {condition.threshold:g}"
