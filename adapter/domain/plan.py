"""What is proposed to a clinician, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from adapter.domain.ids import PatientId, ResourceVersion
from adapter.domain.landmark import Landmark
from adapter.domain.tristate import TriState


class RiskGroup(Enum):
    """The guideline's postoperative risk group; unknown is a verdict, not a gap."""

    HIGH = "high"
    INTERMEDIATE = "intermediate"
    LOW = "low"
    UNKNOWN = "unknown"


class Verdict(Enum):
    """How one action stands to the rules."""

    CONCORDANT = "concordant"
    OPTION = "option"
    UNCERTAIN = "uncertain"
    DISCORDANT = "discordant"
    CONTRAINDICATED = "contraindicated"
    NOT_ASSESSABLE = "not_assessable"
    OUT_OF_SCOPE = "out_of_scope"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReason:
    """Why a rule came out as it did. code: the rule's id; sentence: for clinicians; sources: what it read."""

    code: str
    sentence: str
    evidence: tuple[str, ...] = ()
    sources: tuple[ResourceVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionVerdict:
    """One action of the closed set in `mappings/regimens.toml` and its verdict."""

    action: str
    verdict: Verdict
    reasons: tuple[RuleReason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpVisit:
    """One recurring follow-up activity, in months after the landmark. every_months: 0 for a single one."""

    activity: str
    first_month: int
    last_month: int
    every_months: int
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarePlanProposal:
    """The proposal: what the rules allow now, and the follow-up; `MDT` stands wherever a rule could not decide."""

    patient_id: PatientId
    landmark: Landmark
    scope: TriState
    risk_group: RiskGroup
    actions: tuple[ActionVerdict, ...]
    follow_up: tuple[FollowUpVisit, ...]
    reasons: tuple[RuleReason, ...]
    policy_version: str
