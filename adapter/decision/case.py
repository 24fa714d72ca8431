"""The decision on named features, as in `policy try`: no record, no model, the rules and their gates alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from adapter.decision.findings import findings_given
from adapter.decision.gates import walk_gates
from adapter.decision.policy import Policy
from adapter.decision.verdicts import Decision, decide
from adapter.domain.plan import Gate, RuleReason
from adapter.domain.tristate import TriState

_SCOPE_WORDS = {TriState.TRUE: "in", TriState.FALSE: "out", TriState.UNKNOWN: "unknown"}


def evaluate_features(features: Mapping[str, object], landmark: datetime, policy: Policy) -> Decision:
    """Decide on named features; an absent key is unknown. Where scope or guideline stop, the last reason says how.

    Raises UnusableInput naming a key it cannot read.
    """
    findings = findings_given(features, landmark, policy)
    decision = decide(findings, policy)
    stop = walk_gates(decision, findings, policy).stop
    if stop is None or stop.gate not in {Gate.SCOPE, Gate.GUIDELINE}:
        return decision
    reason = RuleReason(code=f"STOP-{stop.code}", sentence=f"{stop.sentence} To resolve: {stop.resolve}")
    return replace(decision, reasons=(*decision.reasons, reason))


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
