"""The follow-up table at a landmark: months from surgery to months from now, and intervals where recurrence is likely.

No trial shows that more visits prolong survival (clinical.md 2e): an interval that follows the patient's own risk is a
research hypothesis, stays inside the guideline's bounds, costs no more visits than the table, and says what it is.
Recurrence may be likeliest in any year, but a schedule that grows denser again with time, or that sees a patient at
high risk less often than the table in the first two years, is one that no clinician would sign: neither is chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from adapter.decision.policy import Policy, Visit
from adapter.domain.plan import FollowUpVisit, RiskGroup
from adapter.domain.risk import Outcome, RiskForecast
from adapter.domain.timeline import Timeline

_DAYS_PER_MONTH = 365.25 / 12
# Groups whose rows that are kept at high risk may widen; one that is not known is not taken for lower.
_LOWER = frozenset({RiskGroup.INTERMEDIATE, RiskGroup.LOW})
# Months from now and the fraction recurred by then, rising in both.
Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One stretch of follow-up with one interval; months from now.

    begun, last: the stretch, the first visit one interval after `begun`. every, planned: the table's interval and
    number of visits. least, most: the bounds its interval keeps. mass: fraction whose recurrence is expected in it.
    """

    begun: int
    last: int
    every: int
    planned: int
    least: int
    most: int
    mass: float

    def visits(self, every: int) -> int:
        """How many visits the stretch holds at this interval."""
        return self.planned if every == self.every else (self.last - self.begun) // every

    def choices(self) -> tuple[int, ...]:
        """The intervals within the bounds that leave at least one visit; the table's own always does."""
        return tuple(every for every in range(self.least, self.most + 1) if self.visits(every) > 0)


def schedule(
    timeline: Timeline,
    policy: Policy,
    forecast: RiskForecast | None = None,
    group: RiskGroup = RiskGroup.UNKNOWN,
) -> tuple[FollowUpVisit, ...]:
    """Return what is due after the landmark; what is past is left out.

    forecast: with one, and where the site's policy says so, the intervals of the rows that may adapt follow it.
    group: at high risk, and where it is not known, the rows that are kept then never widen beyond the table.
    """
    elapsed = int((timeline.landmark.time - timeline.index_surgery.performed.latest).days / _DAYS_PER_MONTH)
    return schedule_at(elapsed, policy, None if forecast is None else _recurrence_curve(forecast), group)


def schedule_at(
    elapsed: int, policy: Policy, curve: Curve | None, group: RiskGroup = RiskGroup.UNKNOWN
) -> tuple[FollowUpVisit, ...]:
    """Return what is due so many whole months after surgery.

    curve: None where nothing is forecast, or nothing is to follow it. group: as in `schedule`.
    """
    due = [(row, _from_now(row, elapsed)) for row in policy.visits if _next_month(row, elapsed) <= row.last_month]
    if curve is None or not policy.adapts_follow_up:
        return tuple(visit for _, visit in due)
    adapting = [(row, visit) for row, visit in due if row.adapts]
    phases = [_phase(row, visit, curve, group) for row, visit in adapting]
    chosen = dict(zip((row.code for row, _ in adapting), intervals(phases), strict=True))
    return tuple(_at_interval(visit, chosen.get(row.code, row.every_months)) for row, visit in due)


def intervals(phases: Sequence[Phase]) -> tuple[int, ...]:
    """Choose each phase's interval, months, for the least expected delay with no more visits than the table has.

    A recurrence is found at the next visit, so within a phase it waits half an interval on average. Every choice
    within the bounds whose intervals never shorten with time is tried, and the table's own whatever it is; where two
    are equal, the table's own wins, then the one with fewer visits. phases: in order of time.
    """
    budget = sum(phase.planned for phase in phases)
    table = tuple(phase.every for phase in phases)
    choices = [
        table,
        *(choice for choice in product(*(phase.choices() for phase in phases)) if _never_shortens(choice)),
    ]
    affordable = [choice for choice in choices if _visits(phases, choice) <= budget]
    return min(affordable, key=lambda choice: (_delay(phases, choice), choice != table, _visits(phases, choice)))


def visit_months(visits: Iterable[FollowUpVisit]) -> tuple[int, ...]:
    """Every month from now with a visit, ascending."""
    return tuple(sorted({month for visit in visits for month in _months(visit)}))


def mean_delay(months: Sequence[int], recurrences: Sequence[float]) -> float:
    """Replay recurrences against a schedule: the mean wait, in months, from each to the first visit at or after it.

    A recurrence after the last visit is left out of both sums. Raises ValueError where none lies before it. A
    simulation: it takes the recorded time for the time at which the recurrence could have been found.
    """
    waits = [min(month - time for month in months if month >= time) for time in recurrences if time <= max(months)]
    if not waits:
        raise ValueError("no recurrence lies before the last visit")
    return sum(waits) / len(waits)


def _months(visit: FollowUpVisit) -> range:
    return range(visit.first_month, visit.last_month + 1, visit.every_months or visit.last_month)


def _never_shortens(choice: Sequence[int]) -> bool:
    return all(earlier <= later for earlier, later in pairwise(choice))


def _visits(phases: Iterable[Phase], choice: Iterable[int]) -> int:
    return sum(phase.visits(every) for phase, every in zip(phases, choice, strict=True))


def _delay(phases: Iterable[Phase], choice: Iterable[int]) -> float:
    return sum(phase.mass * every / 2 for phase, every in zip(phases, choice, strict=True))


def _phase(row: Visit, visit: FollowUpVisit, curve: Curve, group: RiskGroup) -> Phase:
    begun = _begun(visit)
    return Phase(
        begun=begun,
        last=visit.last_month,
        every=row.every_months,
        planned=len(_months(visit)),
        least=row.least,
        most=row.every_months if row.kept_at_high_risk and group not in _LOWER else row.most,
        mass=_cumulated(curve, visit.last_month) - _cumulated(curve, begun),
    )


def _begun(visit: FollowUpVisit) -> int:
    return max(0, visit.first_month - visit.every_months)


def _recurrence_curve(forecast: RiskForecast) -> Curve:
    horizons = forecast.landmark.horizons
    return [(horizon, forecast.probability(Outcome.RECURRENCE, horizon)) for horizon in horizons]


def _cumulated(curve: Curve, month: int) -> float:
    """The curve between its horizons, straight from one to the next; flat behind the last."""
    points = [(0, 0.0), *curve]
    for (earlier, low), (later, high) in pairwise(points):
        if month <= later:
            return low + (high - low) * (month - earlier) / (later - earlier)
    return points[-1][1]


def _at_interval(visit: FollowUpVisit, every: int) -> FollowUpVisit:
    """Keep the table's visit where the interval is the table's; else count from where the stretch began."""
    if every == visit.every_months:
        return visit
    return replace(visit, first_month=_begun(visit) + every, every_months=every, adapted=True)


def _from_now(visit: Visit, elapsed: int) -> FollowUpVisit:
    return FollowUpVisit(
        activity=visit.code,
        first_month=_next_month(visit, elapsed) - elapsed,
        last_month=visit.last_month - elapsed,
        every_months=visit.every_months,
        evidence=visit.evidence,
    )


def _next_month(visit: Visit, elapsed: int) -> int:
    """Return the next month after surgery in which the activity is due, never one that is past."""
    if visit.first_month > elapsed:
        return visit.first_month
    if not visit.every_months:
        return elapsed + 1
    done = (elapsed - visit.first_month) // visit.every_months + 1
    return visit.first_month + done * visit.every_months
