"""What must hold before a model may set treatments apart: six gates in order, each stop with its code and its way out.

The verdicts of the rules stand whatever the gates say; a stop only silences the model. Source: model.md, order of
gates; clinical.md 2f.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapter.decision.policy import GateLimits, Policy
from adapter.decision.rules import Findings, features_of
from adapter.decision.verdicts import CLOSED, Decision
from adapter.domain.plan import Gate, GateOutcome, GateState, RiskGroup, Verdict
from adapter.domain.record import Quarantined
from adapter.domain.risk import RiskForecast
from adapter.domain.tristate import TriState

_NO_TREATMENT = frozenset({"MDT", "TRIAL"})
_REFUSED_VALUES = frozenset(
    {
        "code-and-text-conflict",
        "conflicting-codes",
        "conflicting-values",
        "no-unit",
        "no-value",
        "not-a-number",
        "number-in-text",
        "out-of-range",
        "unknown-comparator",
        "unknown-unit",
        "unknown-unit-system",
        "unknown-value",
    }
)
# Every code under which a gate stops; each has its row in delivery.toml.
STOP_CODES = frozenset(
    {
        "adjuvant-question-closed",
        "benefit-not-given",
        "distribution-not-given",
        "inputs-missing",
        "no-allowed-action",
        "no-clear-benefit",
        "no-overlap",
        "no-prediction",
        "out-of-distribution",
        "out-of-scope",
        "overlap-not-given",
        "risk-group-unknown",
        "scope-unknown",
        "single-allowed-action",
        "units-refused",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmOverlap:
    """How well an action is represented among patients like this one.

    propensity: fraction of them who received it. effective_sample: their effective number.
    """

    propensity: float
    effective_sample: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """What the model finds an action adds over another: points of recurrence-free survival at 3 years, and interval."""

    action: str
    over: str
    points: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSupport:
    """What a model says of comparing treatments. None, or an action left out: it does not say, which is never a yes."""

    overlap: Mapping[str, ArmOverlap] | None = None
    benefits: Sequence[Benefit] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateWalk:
    """All six gates in order, and the treatments the model sets apart: empty unless every gate passed."""

    outcomes: tuple[GateOutcome, ...]
    ranking: tuple[str, ...]

    @property
    def stop(self) -> GateOutcome | None:
        """The gate that stopped; None where all passed."""
        return next((outcome for outcome in self.outcomes if outcome.state is GateState.STOPPED), None)


@dataclass(frozen=True, slots=True)
class _Stop:
    code: str
    sentence: str
    resolve: str


def walk_gates(
    decision: Decision,
    findings: Findings,
    policy: Policy,
    *,
    forecast: RiskForecast | None = None,
    quarantined: Iterable[Quarantined] = (),
    support: ModelSupport | None = None,
) -> GateWalk:
    """Ask the gates in order and stop at the first that does not hold.

    forecast: None where no model spoke. quarantined: what was read and not used. support: None for a model that
    compares no treatments.
    """
    allowed = allowed_actions(decision)
    ground = support or ModelSupport()
    stops: tuple[tuple[Gate, Iterator[_Stop]], ...] = (
        (Gate.SCOPE, _scope(decision, policy)),
        (Gate.GUIDELINE, _guideline(decision, allowed, policy)),
        (Gate.COMPLETENESS, _completeness(findings, policy, forecast, quarantined)),
        (Gate.DISTRIBUTION, _distribution(forecast, policy.gates)),
        (Gate.OVERLAP, _overlap(ground, allowed, policy)),
        (Gate.BENEFIT, _benefit(ground, allowed, policy.gates)),
    )
    outcomes: list[GateOutcome] = []
    for gate, stop in stops:
        if outcomes and outcomes[-1].state is not GateState.PASSED:
            outcomes.append(GateOutcome(gate=gate, state=GateState.NOT_REACHED))
        else:
            outcomes.append(_outcome(gate, next(stop, None)))
    passed = outcomes[-1].state is GateState.PASSED
    return GateWalk(outcomes=tuple(outcomes), ranking=_ranking(ground, allowed, policy.gates) if passed else ())


def allowed_actions(decision: Decision) -> tuple[str, ...]:
    """The treatments the rules propose, in table order: no model may go below them (guideline minimum)."""
    return tuple(
        entry.action
        for entry in decision.actions
        if entry.action not in _NO_TREATMENT and entry.verdict in {Verdict.CONCORDANT, Verdict.OPTION}
    )


def _outcome(gate: Gate, stop: _Stop | None) -> GateOutcome:
    if stop is None:
        return GateOutcome(gate=gate, state=GateState.PASSED)
    return GateOutcome(gate=gate, state=GateState.STOPPED, code=stop.code, sentence=stop.sentence, resolve=stop.resolve)


# ---- the gates, each yielding what stops it


def _scope(decision: Decision, policy: Policy) -> Iterator[_Stop]:
    closed = next((reason for reason in decision.reasons if reason.code in CLOSED), None)
    if closed is not None:
        yield _Stop("adjuvant-question-closed", closed.sentence, "Nothing: the time of adjuvant treatment is over.")
    if decision.scope is TriState.FALSE:
        yield _Stop(
            "out-of-scope",
            "These rules and this model do not cover the patient.",
            "The tumour board decides; nothing in the record would change it unless it is wrong.",
        )
    if decision.scope is TriState.UNKNOWN:
        yield _Stop(
            "scope-unknown",
            "Whether these rules cover the patient is not known.",
            _what_is_missing(decision, policy),
        )


def _guideline(decision: Decision, allowed: tuple[str, ...], policy: Policy) -> Iterator[_Stop]:
    if decision.risk_group is RiskGroup.UNKNOWN:
        yield _Stop(
            "risk-group-unknown", "The guideline's risk group cannot be assessed.", _what_is_missing(decision, policy)
        )
    if not allowed:
        yield _Stop(
            "no-allowed-action",
            "The rules leave no treatment to propose: contraindicated, or not to be assessed.",
            _what_is_missing(decision, policy),
        )
    if len(allowed) == 1:
        yield _Stop(
            "single-allowed-action",
            "The rules allow one treatment; there is nothing for a model to compare.",
            "Nothing: the rules have settled it.",
        )


def _completeness(
    findings: Findings, policy: Policy, forecast: RiskForecast | None, quarantined: Iterable[Quarantined]
) -> Iterator[_Stop]:
    """A value that was there and could not be read is worse than none: it may say the opposite."""
    read = {feature for rule in policy.rules.values() for feature in features_of(rule.when)} | set(policy.features)
    refused = sorted(
        {
            feature
            for entry in quarantined
            if entry.reason in _REFUSED_VALUES
            and (feature := entry.detail.partition(" ")[0]) in read
            and feature not in findings
        }
    )
    if refused:
        named = ", ".join(refused)  # as a site's mapping row calls them
        yield _Stop(
            "units-refused",
            f"Values were sent that could not be read: {named}.",
            f"Send {named} with a unit and a code that agree, or add the site's mapping row.",
        )
    if forecast is None:
        yield _Stop("no-prediction", "No model has spoken.", "Ask for an assessment of the patient's own record.")
    elif len(forecast.missing) > policy.gates.most_missing:
        yield _Stop(
            "inputs-missing",
            f"{len(forecast.missing)} model inputs are not known, more than the {policy.gates.most_missing:g} allowed.",
            f"Record {'; '.join(policy.asked_for(feature) for feature in forecast.missing)}.",
        )


def _distribution(forecast: RiskForecast | None, limits: GateLimits) -> Iterator[_Stop]:
    typicality = None if forecast is None else forecast.typicality
    if typicality is None:
        yield _Stop(
            "distribution-not-given",
            "The model does not say whether the patient resembles those it learnt from.",
            "Nothing in this record; only a model that says so.",
        )
    elif typicality < limits.least_typicality:
        yield _Stop(
            "out-of-distribution",
            "The patient is unlike those the model learnt from.",
            "Use the rules alone; a model trained on such patients would be needed.",
        )


def _overlap(ground: ModelSupport, allowed: tuple[str, ...], policy: Policy) -> Iterator[_Stop]:
    known, limits = ground.overlap or {}, policy.gates
    unsaid = [action for action in allowed if action not in known]
    if unsaid:
        yield _Stop(
            "overlap-not-given",
            "This model does not compare treatments: it was not told how many patients like this one received which "
            f"({_titles(unsaid, policy)}).",
            "Nothing in this record; rules and forecast stand without a comparison.",
        )
    thin = [
        action
        for action in allowed
        if action in known
        and not (
            known[action].propensity >= limits.least_propensity
            and known[action].effective_sample >= limits.least_sample
        )
    ]
    if thin:
        yield _Stop(
            "no-overlap",
            f"Too few patients like this one received one of these to compare them: {_titles(thin, policy)}.",
            "Nothing in this record; only a model trained on more patients with those treatments.",
        )


def _titles(actions: Iterable[str], policy: Policy) -> str:
    return "; ".join(policy.action(action).title for action in actions)


def _benefit(ground: ModelSupport, allowed: tuple[str, ...], limits: GateLimits) -> Iterator[_Stop]:
    if not ground.benefits:
        yield _Stop(
            "benefit-not-given",
            "The model gives no difference between treatments with an interval.",
            "Nothing in this record; only a model whose comparison of treatments was validated.",
        )
    elif not any(_clear(benefit, limits) for benefit in _among(ground.benefits, allowed)):
        yield _Stop(
            "no-clear-benefit",
            "No model preference: every interval includes differences too small to matter.",
            "Discuss at the tumour board; both predicted curves are shown.",
        )


def _clear(benefit: Benefit, limits: GateLimits) -> bool:
    """The whole interval lies beyond the smallest difference that matters, on one side."""
    return benefit.low > limits.benefit_points or benefit.high < -limits.benefit_points


def _among(benefits: Iterable[Benefit], allowed: tuple[str, ...]) -> Iterator[Benefit]:
    return (benefit for benefit in benefits if benefit.action in allowed and benefit.over in allowed)


def _ranking(ground: ModelSupport, allowed: tuple[str, ...], limits: GateLimits) -> tuple[str, ...]:
    """Order the allowed actions by what each clearly adds over the others; table order where nothing does."""
    gains = dict.fromkeys(allowed, 0.0)
    for benefit in _among(ground.benefits or (), allowed):
        if not _clear(benefit, limits):
            continue
        gains[benefit.action] += benefit.points
        gains[benefit.over] -= benefit.points
    return tuple(sorted(allowed, key=lambda action: -gains[action]))


def _what_is_missing(decision: Decision, policy: Policy) -> str:
    """Name what would settle it, once each; without anything missing the board is left."""
    missing = sorted({feature for reason in decision.reasons for feature in reason.missing})
    asked = [policy.asked_for(feature) for feature in missing]
    return f"Record {'; '.join(asked)}." if asked else "The tumour board decides."
