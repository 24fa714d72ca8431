"""The policy as a table that a reviewer who cannot program can read: `policy show`."""

from __future__ import annotations

from dataclasses import dataclass

from adapter.decision.policy import Policy
from adapter.decision.rules import Compared, Condition, Every, OneOf, Some, Unless


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


def policy_table(policy: Policy) -> tuple[PolicyRow, ...]:
    """Return every rule, flag, action line and follow-up row as it is in force, thresholds filled in."""
    rules = [
        PolicyRow(
            kind="rule",
            code=rule.code,
            title=rule.title,
            condition=in_words(rule.when),
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
            *((in_words(line.when), line.verdict) for line in action.lines),
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


def in_words(condition: Condition) -> str:
    """Write a condition as a sentence part, thresholds filled in."""
    match condition:
        case Every(parts):
            return "(" + " and ".join(in_words(part) for part in parts) + ")"
        case Some(parts):
            return "(" + " or ".join(in_words(part) for part in parts) + ")"
        case Unless(part):
            return f"not {in_words(part)}"
        case OneOf():
            return f"{condition.feature} is {' or '.join(sorted(condition.categories))}"
        case Compared():
            return f"{condition.feature} {condition.relation.value.replace('_', ' ')} {condition.threshold:g}"
