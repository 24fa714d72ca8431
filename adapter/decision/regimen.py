"""What a proposed treatment consists of: dose, schedule, start, alternatives, and what trials found, with intervals.

A trial effect is an average over randomised patients. It stands apart from the model's prediction everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from adapter.decision.policy import Action, Effect, Policy
from adapter.decision.rules import Finding, Findings, NumericFinding
from adapter.decision.verdicts import Decision
from adapter.domain.plan import (
    DrugCourse,
    RadiotherapyDose,
    RiskGroup,
    Timing,
    TreatmentRegimen,
    TrialEffect,
    Verdict,
)

MONTHS = 36
_LISTED_DOSES = 3
_PROPOSED = frozenset({Verdict.CONCORDANT, Verdict.OPTION})
_NO_TREATMENT = frozenset({"MDT", "TRIAL"})
_UNSTATED = "No trial in the evidence table states deaths from other causes for this treatment."


def regimens_of(
    decision: Decision, findings: Findings, policy: Policy, landmark: datetime
) -> tuple[TreatmentRegimen, ...]:
    """Spell out every treatment the rules propose, in table order; nothing where the board has to decide."""
    verdicts = {entry.action: entry.verdict for entry in decision.actions}
    proposed = tuple(code for code in verdicts if verdicts[code] in _PROPOSED and code not in _NO_TREATMENT)
    contraindicated = tuple(code for code in verdicts if verdicts[code] is Verdict.CONTRAINDICATED)
    return tuple(
        _regimen(
            policy.action(code),
            group=decision.risk_group,
            alternatives=tuple(other for other in proposed if other != code),
            contraindicated=contraindicated,
            elapsed=findings.get("days_since_surgery"),
            policy=policy,
            landmark=landmark,
        )
        for code in proposed
    )


def dose_words(radiotherapy: RadiotherapyDose) -> str:
    """Write a prescription: `66 Gy in 33 fractions`."""
    return f"{radiotherapy.total_gy:g} Gy in {radiotherapy.fractions} fractions"


def drug_words(drug: DrugCourse) -> str:
    """Write one drug: `cisplatin 100 mg/m2 on days 1, 22, 43 with radiotherapy`."""
    days = [drug.first_day + drug.every_days * number for number in range(drug.doses)]
    often = f"every {drug.every_days} days, {'up to ' if drug.at_most else ''}{drug.doses} doses"
    when = (
        often
        if drug.at_most or drug.doses > _LISTED_DOSES
        else f"on day{'s' if drug.doses > 1 else ''} {_listed(days)}"
    )
    return f"{drug.ingredient} {drug.dose:g} {drug.unit} {when} {drug.phase} radiotherapy"


def effect_words(effect: TrialEffect) -> str:
    """Write one trial effect so that nobody takes it for a prediction."""
    ratio = f"HR {effect.hazard_ratio:g} ({effect.level:g} % interval {effect.low:g} to {effect.high:g})"
    words = f"Trial average, {effect.evidence}: {effect.endpoint}, {effect.comparison}, {effect.population}: {ratio}"
    if effect.difference is None or effect.difference_low is None or effect.difference_high is None:
        return f"{words}; no difference at {effect.months} months can be stated: {effect.basis}."
    points = f"{effect.difference:+.1f} ({effect.difference_low:+.1f} to {effect.difference_high:+.1f})"
    return (
        f"{words}; among that trial's patients, not this patient's expected gain: {points} percentage points at "
        f"{effect.months} months, by when {effect.with_event:.1f} % of the control arm had the event ({effect.basis})."
    )


def trial_effect(effect: Effect) -> TrialEffect:
    """Move a hazard ratio to a difference at three years, in percentage points without the event.

    The control arm's rate S at t months becomes S**(36 / t) at 36 (constant hazard), and under proportional hazards
    the treated arm's is that to the power of the hazard ratio. The rate itself is taken as known, so the interval is
    the hazard ratio's alone.
    """
    spread = _differences(effect)
    return TrialEffect(
        code=effect.code,
        evidence=effect.evidence,
        endpoint=effect.endpoint,
        comparison=effect.comparison,
        population=effect.population,
        hazard_ratio=effect.hazard_ratio,
        low=effect.low,
        high=effect.high,
        level=effect.level,
        months=MONTHS,
        with_event=100 - spread[0] if spread else None,
        difference=spread[1] if spread else None,
        difference_low=spread[2] if spread else None,
        difference_high=spread[3] if spread else None,
        basis=_basis(effect),
    )


def effects_of(action: Action, group: RiskGroup, policy: Policy) -> tuple[TrialEffect, ...]:
    """Return what trials found for an action in this risk group; one cause of death alone is not among them."""
    return tuple(trial_effect(effect) for effect in _effects(action, group, policy) if not effect.cause)


def _effects(action: Action, group: RiskGroup, policy: Policy) -> list[Effect]:
    return [policy.effects[code] for code in action.effects if policy.effects[code].risk_group in {None, group}]


def _regimen(
    action: Action,
    *,
    group: RiskGroup,
    alternatives: tuple[str, ...],
    contraindicated: tuple[str, ...],
    elapsed: Finding | None,
    policy: Policy,
    landmark: datetime,
) -> TreatmentRegimen:
    dose = action.radiotherapy.get(group)
    days = elapsed.high if dose is not None and isinstance(elapsed, NumericFinding) else None
    effects = _effects(action, group, policy)
    return TreatmentRegimen(
        action=action.code,
        radiotherapy=dose,
        drugs=action.drugs,
        start_by=None if days is None else landmark + timedelta(days=policy.start_target_days - days),
        timing=Timing.UNKNOWN if days is None else _timing(days, policy),
        alternatives=alternatives,
        contraindicated=contraindicated,
        effects=effects_of(action, group, policy),
        competing=" ".join(_competing(effects)) or _UNSTATED,
    )


def _timing(days: float, policy: Policy) -> Timing:
    """Days since surgery, the most a partial date allows: nobody is told that there is time which may be gone."""
    if days > policy.start_late_days:
        return Timing.LATE
    return Timing.TARGET_PASSED if days > policy.start_target_days else Timing.ON_TIME


def _competing(effects: Iterable[Effect]) -> Iterable[str]:
    for effect in effects:
        if effect.cause:
            yield (
                f"Trial average, {effect.evidence}: {effect.endpoint}, {effect.comparison}: "
                f"HR {effect.hazard_ratio:g} ({effect.low:g} to {effect.high:g})."
            )


def _differences(effect: Effect) -> tuple[float, float, float, float] | None:
    """The control arm's rate in percent, then percentage points at the ratio, at its worse and at its better end."""
    if effect.control_percent is None or effect.control_months is None or effect.cause:
        return None
    control = (effect.control_percent / 100) ** (MONTHS / effect.control_months)
    at_ratio, worse, better = (
        100 * (control**ratio - control) for ratio in (effect.hazard_ratio, effect.high, effect.low)
    )
    return 100 * control, at_ratio, worse, better


def _basis(effect: Effect) -> str:
    if effect.control_percent is None:
        return "the control arm's rate is not on file"
    moved = "" if effect.control_months == MONTHS else f", moved to {MONTHS} by a constant hazard"
    control = f"{effect.control_evidence}, {effect.control_arm}: {effect.control_percent:g} % without it"
    return f"{control} at {effect.control_months} months{moved}; proportional hazards"


def _listed(days: list[int]) -> str:
    return ", ".join(map(str, days))
