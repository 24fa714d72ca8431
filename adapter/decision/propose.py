"""Forecast and timeline -> care-plan proposal: what the rules allow, what they forbid, and when to ask the board.

The model's risk never moves a verdict: a prognosis from observational data is no treatment effect (clinical.md 2f).
"""

from __future__ import annotations

from collections.abc import Iterable

from adapter.decision.findings import assumed, findings_at
from adapter.decision.follow_up import schedule
from adapter.decision.gates import ModelSupport, walk_gates
from adapter.decision.policy import Policy
from adapter.decision.regimen import regimens_of
from adapter.decision.verdicts import Decision, decide
from adapter.domain.ids import ResourceVersion
from adapter.domain.period import Period
from adapter.domain.plan import ActionVerdict, CarePlanProposal, RiskGroup, RuleReason, Verdict
from adapter.domain.risk import RiskForecast
from adapter.domain.timeline import Timeline
from adapter.domain.tristate import TriState

ASSUMED = "ASSUMED-"  # how the code of a reason begins for which nothing is on record

_TUMOUR_BOARD = "MDT"


def propose(
    forecast: RiskForecast, timeline: Timeline, policy: Policy, support: ModelSupport | None = None
) -> CarePlanProposal:
    """Propose for the forecast's landmark. Whatever the rules cannot settle goes to the tumour board.

    support: what the model says of comparing treatments; None for one that says nothing, which the gates then name.

    Once adjuvant treatment has started, or its time is over, no treatment is proposed any more, only follow-up.
    """
    findings = findings_at(timeline, policy)
    closed = _adjuvant_question_closed(timeline, policy)
    decision = decide(findings, policy) if closed is None else _closed_decision(closed, policy)
    assumptions = tuple(
        RuleReason(code=f"{ASSUMED}{assumption.feature}", sentence=assumption.sentence)
        for assumption in assumed(findings, policy)
    )
    walk = walk_gates(decision, findings, policy, forecast=forecast, quarantined=timeline.quarantined, support=support)
    return CarePlanProposal(
        patient_id=forecast.patient_id,
        landmark=forecast.landmark,
        scope=decision.scope,
        risk_group=decision.risk_group,
        actions=decision.actions,
        follow_up=()
        if closed is None and decision.scope is TriState.FALSE
        else schedule(timeline, policy, forecast, decision.risk_group),
        reasons=(*decision.reasons, *assumptions),
        policy_version=policy.version,
        regimens=regimens_of(decision, findings, policy, timeline.landmark.time),
        gates=walk.outcomes,
        ranking=walk.ranking,
    )


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
