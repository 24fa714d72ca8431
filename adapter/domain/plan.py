"""What is proposed to a clinician, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
    """Why a rule came out as it did. code: the rule's id; sentence: for clinicians; sources: what it read.

    missing: the features that would settle it, where it could not be assessed; sorted.
    """

    code: str
    sentence: str
    evidence: tuple[str, ...] = ()
    sources: tuple[ResourceVersion, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionVerdict:
    """One action of the closed set in `mappings/regimens.toml` and its verdict."""

    action: str
    verdict: Verdict
    reasons: tuple[RuleReason, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiotherapyDose:
    """One prescription: total dose in Gy, in this many equal fractions."""

    total_gy: float
    fractions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrugCourse:
    """One drug of a regimen. unit: UCUM of `dose`. phase: before, with or after radiotherapy.

    first_day, every_days: of the phase, counted from 1. doses: how many; at_most: whether that is an upper limit.
    """

    ingredient: str
    dose: float
    unit: str
    phase: str
    first_day: int
    every_days: int
    doses: int
    at_most: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEffect:
    """What randomised patients gained on average; never a prediction for this one.

    hazard_ratio, low, high: as published, `level` percent interval. difference, difference_low, difference_high:
    percentage points of patients without the event at `months`, by when `with_event` percent of the control arm had it;
    None where the trial gives no rate to start from; basis says how they were found.
    """

    code: str
    evidence: str
    endpoint: str
    comparison: str
    population: str
    hazard_ratio: float
    low: float
    high: float
    level: float
    months: int
    with_event: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    basis: str


class Timing(Enum):
    """How far the time from surgery to radiotherapy has run."""

    ON_TIME = "on-time"
    TARGET_PASSED = "target-passed"
    LATE = "late"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreatmentRegimen:
    """One proposed treatment in full. start_by: the latest start that meets the target; None where none is set.

    alternatives: other actions that the rules propose beside it. contraindicated: actions not to be done.
    competing: what the trials say of deaths from other causes.
    """

    action: str
    radiotherapy: RadiotherapyDose | None
    drugs: tuple[DrugCourse, ...]
    start_by: datetime | None
    timing: Timing
    alternatives: tuple[str, ...]
    contraindicated: tuple[str, ...]
    effects: tuple[TrialEffect, ...]
    competing: str


class Gate(Enum):
    """What must hold before a model may say anything about treatments, in this order."""

    SCOPE = "scope"
    GUIDELINE = "guideline-and-contraindication"
    COMPLETENESS = "completeness-and-units"
    DISTRIBUTION = "out-of-distribution"
    OVERLAP = "overlap"
    BENEFIT = "benefit-interval"


class GateState(Enum):
    """How a gate came out; behind the one that stopped nothing was asked."""

    PASSED = "passed"
    STOPPED = "stopped"
    NOT_REACHED = "not-reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """One gate. code, sentence, resolve: empty unless it stopped; resolve says what would open it."""

    gate: Gate
    state: GateState
    code: str = ""
    sentence: str = ""
    resolve: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpVisit:
    """One recurring follow-up activity, in months after the landmark. every_months: 0 for a single one.

    adapted: whether the interval follows the patient's predicted risk and not the table, which is a hypothesis.
    """

    activity: str
    first_month: int
    last_month: int
    every_months: int
    evidence: tuple[str, ...]
    adapted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CarePlanProposal:
    """The proposal: what the rules allow now, and the follow-up; `MDT` stands wherever a rule could not decide.

    regimens: one for each treatment the rules propose. gates: all six, in order. ranking: the treatments the model
    sets apart, first the one with the larger effect; empty unless every gate passed.
    """

    patient_id: PatientId
    landmark: Landmark
    scope: TriState
    risk_group: RiskGroup
    actions: tuple[ActionVerdict, ...]
    follow_up: tuple[FollowUpVisit, ...]
    reasons: tuple[RuleReason, ...]
    policy_version: str
    regimens: tuple[TreatmentRegimen, ...] = ()
    gates: tuple[GateOutcome, ...] = ()
    ranking: tuple[str, ...] = ()
