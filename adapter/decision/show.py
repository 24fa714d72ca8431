"""The policy as a table that a reviewer who cannot program can read: `policy show`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from adapter.decision.policy import Action, Policy
from adapter.decision.regimen import dose_words, drug_words, effect_words, trial_effect
from adapter.decision.rules import Compared, Condition, Every, OneOf, Some, Unless
from adapter.domain.plan import RadiotherapyDose


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
            condition=in_words(rule.when, policy),
            verdict="",
            evidence=rule.evidence,
            source=rule.source,
        )
        for rule in (*policy.rules.values(), *policy.flags)
    ]
    names = policy.names_of_conditions()
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
            *((_named(line.when, names), line.verdict) for line in action.lines),
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
    return (*rules, *actions, *_prescriptions(policy), *_effects(policy), *visits)


def _prescriptions(policy: Policy) -> Iterator[PolicyRow]:
    """What each treatment consists of, a row per risk group where the dose differs."""
    for action in policy.actions:
        drugs = [drug_words(drug) for drug in action.drugs]
        doses = {dose: group.value for group, dose in action.radiotherapy.items()}
        shared = len(set(action.radiotherapy.values())) == 1
        for dose, group in doses.items() if doses else ([(None, "")] if drugs else []):
            words = [*([dose_words(dose)] if dose else []), *drugs]
            yield PolicyRow(
                kind="regimen",
                code=action.code,
                title="; ".join(words),
                condition="any risk group" if shared or not group else _groups(action, dose),
                verdict="",
                evidence=action.evidence,
                source=action.source,
            )


def _groups(action: Action, dose: RadiotherapyDose | None) -> str:
    groups = [group.value for group, entry in action.radiotherapy.items() if entry == dose]
    return f"risk group {' or '.join(groups)}"


def _effects(policy: Policy) -> Iterator[PolicyRow]:
    """What the trials found, moved to three years where that can be done."""
    for effect in policy.effects.values():
        yield PolicyRow(
            kind="effect",
            code=effect.code,
            title=effect.endpoint if effect.cause else effect_words(trial_effect(effect)),
            condition=effect.population,
            verdict=f"HR {effect.hazard_ratio:g} ({effect.low:g} to {effect.high:g})",
            evidence=(effect.evidence,),
            source=effect.control_arm,
        )


def in_words(condition: Condition, policy: Policy) -> str:
    """Write a condition as a sentence part: thresholds filled in, other rules by their names."""
    return _words(condition, policy.names_of_conditions())


def _words(condition: Condition, names: Mapping[int, str]) -> str:
    match condition:
        case Every(parts):
            return _joined(parts, " and ", "always", names)
        case Some(parts):
            return _joined(parts, " or ", "never", names)
        case Unless(part):
            return f"not {_named(part, names)}"
        case OneOf():
            return f"{condition.feature} is {' or '.join(sorted(condition.categories))}"
        case Compared():
            return f"{condition.feature} {condition.relation.value.replace('_', ' ')} {condition.threshold:g}"


def _joined(parts: Iterable[Condition], word: str, of_nothing: str, names: Mapping[int, str]) -> str:
    written = [_named(part, names) for part in parts]
    return f"({word.join(written)})" if written else of_nothing


def _named(condition: Condition, names: Mapping[int, str]) -> str:
    return names.get(id(condition)) or _words(condition, names)
