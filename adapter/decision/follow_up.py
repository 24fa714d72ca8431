"""The follow-up table, moved from months after surgery to months after the landmark."""

from __future__ import annotations

from adapter.decision.policy import Policy, Visit
from adapter.domain.plan import FollowUpVisit
from adapter.domain.timeline import Timeline

_DAYS_PER_MONTH = 365.25 / 12


def schedule(timeline: Timeline, policy: Policy) -> tuple[FollowUpVisit, ...]:
    """Return what is due after the landmark; what is past is left out."""
    elapsed = int((timeline.landmark.time - timeline.index_surgery.performed.latest).days / _DAYS_PER_MONTH)
    return tuple(
        _from_now(visit, elapsed) for visit in policy.visits if _next_month(visit, elapsed) <= visit.last_month
    )


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
