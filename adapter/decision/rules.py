"""A small rule engine over three-valued logic: conditions are data, and unknown never reads as false.

Kleene's strong logic makes every condition monotone: more information can settle an unknown, never overturn a
settled answer. That is what keeps a missing value from buying a recommendation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from adapter.domain.ids import ResourceVersion
from adapter.domain.tristate import TriState, all_of, any_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedFinding:
    """What is known of a coded feature. categories: keys of its value set, several only where it allows it.

    age_days: days between the finding and the landmark, None when no date came with it.
    """

    feature: str
    categories: frozenset[str]
    age_days: float | None = None
    sources: tuple[ResourceVersion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NumericFinding:
    """What is known of a numeric feature: it lies between `low` and `high`, included, in its canonical unit.

    A measured number has both equal; a comparator, a partial date or a missing grade leaves an interval.
    """

    feature: str
    low: float
    high: float
    age_days: float | None = None
    sources: tuple[ResourceVersion, ...] = ()


Finding = CodedFinding | NumericFinding
Findings = Mapping[str, Finding]


class Relation(Enum):
    """How a number is compared with a threshold."""

    BELOW = "below"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    ABOVE = "above"


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """The coded feature is one of the categories. fresh_days: older findings read as unknown; None: any."""

    feature: str
    categories: frozenset[str]
    fresh_days: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The number stands in this relation to the threshold, both in the feature's canonical unit."""

    feature: str
    relation: Relation
    threshold: float
    fresh_days: float | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Unless:
    """The part does not hold."""

    part: Condition


Condition = OneOf | Compared | Every | Some | Unless


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How a condition came out. missing: features that would have to be known (or fresh) to settle it.

    sources: versions of the resources that settled it, sorted.
    """

    truth: TriState
    missing: frozenset[str] = frozenset()
    sources: tuple[ResourceVersion, ...] = ()


class Judging:
    """The judgements of one set of findings, each condition judged once however many rules share it."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._known: dict[int, tuple[Condition, Judgement]] = {}

    def of(self, condition: Condition) -> Judgement:
        """Evaluate one condition. Only the parts that decide it are blamed or cited."""
        known = self._known.get(id(condition))
        if known is None:  # the condition is kept beside its judgement, so that its id is not given to another
            known = self._known[id(condition)] = (condition, self._judged(condition))
        return known[1]

    def _judged(self, condition: Condition) -> Judgement:
        match condition:
            case Every(parts):
                return _joined([self.of(part) for part in parts], all_of)
            case Some(parts):
                return _joined([self.of(part) for part in parts], any_of)
            case Unless(part):
                inner = self.of(part)
                return Judgement(truth=inner.truth.negated(), missing=inner.missing, sources=inner.sources)
            case OneOf() | Compared():
                return _judge_finding(condition, self.findings.get(condition.feature))


def judge(condition: Condition, findings: Findings) -> Judgement:
    """Evaluate one condition by itself."""
    return Judging(findings).of(condition)


def features_of(condition: Condition) -> frozenset[str]:
    """Every feature a condition may read."""
    match condition:
        case Every(parts) | Some(parts):
            return frozenset().union(*(features_of(part) for part in parts))
        case Unless(part):
            return features_of(part)
        case OneOf() | Compared():
            return frozenset({condition.feature})


def _judge_finding(condition: OneOf | Compared, finding: Finding | None) -> Judgement:
    truth = TriState.UNKNOWN
    if finding is not None and not _stale(finding, condition.fresh_days):
        truth = _compare(condition, finding)
    if finding is None or truth is TriState.UNKNOWN:
        return Judgement(truth=TriState.UNKNOWN, missing=frozenset({condition.feature}))
    return Judgement(truth=truth, sources=finding.sources)


def _stale(finding: Finding, fresh_days: float | None) -> bool:
    return fresh_days is not None and finding.age_days is not None and finding.age_days > fresh_days


def _compare(condition: OneOf | Compared, finding: Finding) -> TriState:
    if isinstance(condition, OneOf) and isinstance(finding, CodedFinding):
        return TriState.of(bool(condition.categories & finding.categories))
    if isinstance(condition, Compared) and isinstance(finding, NumericFinding):
        return _compare_number(condition, finding)
    raise TypeError(f"{condition.feature} is read both as a number and as a code")


def _compare_number(condition: Compared, finding: NumericFinding) -> TriState:
    """Both ends of the interval must agree."""
    ends = {_holds(condition.relation, end, condition.threshold) for end in (finding.low, finding.high)}
    return TriState.of(ends.pop()) if len(ends) == 1 else TriState.UNKNOWN


def _holds(relation: Relation, number: float, threshold: float) -> bool:
    match relation:
        case Relation.BELOW:
            return number < threshold
        case Relation.AT_MOST:
            return number <= threshold
        case Relation.AT_LEAST:
            return number >= threshold
        case Relation.ABOVE:
            return number > threshold


def _joined(parts: list[Judgement], combine: Callable[[Iterable[TriState]], TriState]) -> Judgement:
    truth = combine(part.truth for part in parts)
    decisive = [part for part in parts if part.truth is truth]
    return Judgement(
        truth=truth,
        missing=frozenset().union(*(part.missing for part in decisive)),
        sources=tuple(sorted({source for part in decisive for source in part.sources})),
    )
