"""Findings -> what the rules allow, what they forbid, and when they cannot tell: scope, risk group, every action."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
)
from adapter.decision.rules import Finding, Findings, Judging
from adapter.domain.plan import ActionVerdict, RiskGroup, RuleReason, Verdict
from adapter.domain.tristate import TriState

# Reasons for which no adjuvant treatment is proposed any more.
CLOSED = frozenset({"ADJUVANT-STARTED", "ADJUVANT-CLOSED"})
_ADVICE_AGAINST = frozenset({Verdict.DISCORDANT, Verdict.CONTRAINDICATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the rules say about one set of findings. actions: every action of the closed set, in table order."""

    scope: TriState
    risk_group: RiskGroup
    actions: tuple[ActionVerdict, ...]
    reasons: tuple[RuleReason, ...]


def decide(findings: Findings, policy: Policy) -> Decision:
    """Judge scope, risk group and every action. More findings settle more and overturn nothing."""
    judging = Judging(findings)
    scope = judging.of(policy.rules[IN_SCOPE].when).truth
    group = _risk_group(judging, policy) if scope is TriState.TRUE else RiskGroup.UNKNOWN
    return Decision(
        scope=scope,
        risk_group=group,
        actions=tuple(_verdict_on(action, scope, judging, policy) for action in policy.actions),
        reasons=tuple(_reasons(scope, judging, policy)),
    )


# ---- verdicts


def _risk_group(judging: Judging, policy: Policy) -> RiskGroup:
    high = judging.of(policy.rules[HIGH].when).truth
    intermediate = judging.of(policy.rules[INTERMEDIATE].when).truth
    if high is TriState.TRUE:
        return RiskGroup.HIGH
    if high is TriState.UNKNOWN or intermediate is TriState.UNKNOWN:
        return RiskGroup.UNKNOWN
    return RiskGroup.INTERMEDIATE if intermediate is TriState.TRUE else RiskGroup.LOW


def _verdict_on(action: Action, scope: TriState, judging: Judging, policy: Policy) -> ActionVerdict:
    if scope is TriState.FALSE:
        return ActionVerdict(action=action.code, verdict=action.out_of_scope, reasons=_scope_reasons(judging, policy))
    if scope is TriState.UNKNOWN:
        return ActionVerdict(action=action.code, verdict=action.undecided, reasons=_scope_reasons(judging, policy))
    return _verdict_in_scope(action, judging, policy)


def _verdict_in_scope(action: Action, judging: Judging, policy: Policy) -> ActionVerdict:
    """Walk the decision list, keeping every verdict that unknown lines leave possible; decide where they agree.

    What stays possible only shrinks with more findings, so a missing one can never buy a recommendation.
    """
    possible: list[tuple[Verdict, RuleReason]] = []
    missing: set[str] = set()
    for line in action.lines:
        judged = judging.of(line.when)
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
    undecided = _cannot_assess(action.code, action.title, missing, judging.findings, policy)
    verdict = Verdict.DISCORDANT if verdicts <= _ADVICE_AGAINST else action.undecided
    return ActionVerdict(action=action.code, verdict=verdict, reasons=(undecided,))


# ---- reasons


def _reasons(scope: TriState, judging: Judging, policy: Policy) -> Iterable[RuleReason]:
    """Scope first; within scope the risk group, then cisplatin, then the flags."""
    yield from _scope_reasons(judging, policy)
    if scope is TriState.TRUE:
        high = judging.of(policy.rules[HIGH].when).truth
        yield from _part_reasons(policy.rules[HIGH], high, judging, policy)
        if high is not TriState.TRUE:
            intermediate = judging.of(policy.rules[INTERMEDIATE].when).truth
            yield from _part_reasons(policy.rules[INTERMEDIATE], intermediate, judging, policy)
        yield from _cisplatin_reasons(judging, policy)
    for flag in policy.flags:
        judged = judging.of(flag.when)
        if judged.truth is TriState.TRUE:
            yield RuleReason(code=flag.code, sentence=flag.sentence, sources=judged.sources)


def _scope_reasons(judging: Judging, policy: Policy) -> tuple[RuleReason, ...]:
    """What puts the patient outside, else what keeps the scope open, else nothing."""
    parts = [policy.rules[code] for code in policy.rules[IN_SCOPE].parts]
    judged = [(rule, judging.of(rule.when)) for rule in parts]
    outside = tuple(
        RuleReason(code=rule.code, sentence=rule.violated, evidence=rule.evidence, sources=judgement.sources)
        for rule, judgement in judged
        if judgement.truth is TriState.FALSE
    )
    return outside or tuple(
        _cannot_assess(rule.code, rule.title, judgement.missing, judging.findings, policy)
        for rule, judgement in judged
        if judgement.truth is TriState.UNKNOWN
    )


def _part_reasons(whole: Rule, truth: TriState, judging: Judging, policy: Policy) -> Iterable[RuleReason]:
    """Name the parts that made the whole true or left it open; a false whole needs no words."""
    if truth is TriState.UNKNOWN:
        yield _cannot_assess(whole.code, whole.title, judging.of(whole.when).missing, judging.findings, policy)
    for code in whole.parts:
        rule = policy.rules[code]
        judged = judging.of(rule.when)
        if truth is TriState.TRUE and judged.truth is TriState.TRUE:
            yield RuleReason(code=code, sentence=rule.sentence, evidence=rule.evidence, sources=judged.sources)


def _cisplatin_reasons(judging: Judging, policy: Policy) -> Iterable[RuleReason]:
    """The verdict of the chosen panel, which is always named."""
    suitable, unsuitable, borderline = (
        judging.of(policy.rules[code].when) for code in (CISPLATIN_OK, CISPLATIN_UNSUITABLE, CISPLATIN_BORDERLINE)
    )
    evidence = policy.rules[CISPLATIN_OK].evidence
    if suitable.truth is TriState.TRUE:
        sentence = f"Suitable for cisplatin by {policy.panel}; not checked: {policy.panel_not_checked}."
        yield RuleReason(code=CISPLATIN_OK, sentence=sentence, evidence=evidence, sources=suitable.sources)
    elif unsuitable.truth is TriState.TRUE or borderline.truth is TriState.TRUE:
        code = CISPLATIN_UNSUITABLE if unsuitable.truth is TriState.TRUE else CISPLATIN_BORDERLINE
        yield RuleReason(code=code, sentence=f"Cisplatin judged by {policy.panel}.", evidence=evidence)
        yield from _part_reasons(policy.rules[code], TriState.TRUE, judging, policy)
    else:
        yield _cannot_assess(CISPLATIN_OK, f"cisplatin by {policy.panel}", suitable.missing, judging.findings, policy)


def _cannot_assess(code: str, title: str, missing: Iterable[str], findings: Findings, policy: Policy) -> RuleReason:
    features = tuple(sorted(missing))
    named = "; ".join(_missing_words(policy.asked_for(feature), findings.get(feature)) for feature in features)
    return RuleReason(code=code, sentence=f"Cannot be judged: {title}. Missing: {named}.", missing=features)


def _missing_words(asked: str, finding: Finding | None) -> str:
    """A finding that is there and still does not answer is too old or too vague."""
    return asked if finding is None else f"a recent and exact {asked}"
