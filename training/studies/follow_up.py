"""Replay of recorded recurrences against follow-up schedules: a simulation, on forecasts of patients the fit never saw.

It takes the recorded day of a recurrence for the first day on which a visit could have found it, and every visit for
one that finds it. Both are kinder to any schedule than clinics are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapter.decision.follow_up import Curve, schedule_at, visit_months
from adapter.decision.policy import load_policy
from adapter.domain.landmark import Landmark
from adapter.domain.plan import FollowUpVisit
from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import NETWORKS, OURS, Study, cross_validate
from training.evaluate import read_data, say
from training.protocol import landmark_study
from training.recipe import QUICK
from training.recipe import Effort as FitEffort
from training.studies.effort import Effort
from training.studies.findings import Findings, Gate, Table

FOLDS = Path("build/evaluation")  # where `make evaluate` keeps the same folds
_DAYS_PER_MONTH = 365.25 / 12
_MONTHS_PER_YEAR = 12
_SAMPLES, _SEED = 2000, 20260301
_LAST_MONTH = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One recurrence. elapsed: whole months from surgery to landmark; month: of recurrence, from the landmark."""

    elapsed: int
    month: float
    curve: Curve


def study(folder: Path, effort: Effort) -> Findings:
    """Cross-fit the shipped model's recipe once on HANCOCK and replay every recurrence within five years."""
    data = read_data(folder)
    work = replace(landmark_study(data.hancock, data.tcga), repeats=1)
    fit = QUICK if effort is Effort.QUICK else FitEffort()
    folds = cross_validate(work, fit, NETWORKS, folder=FOLDS, data_digest=data.digest, workers=1, progress=say)
    forecast = np.empty((len(work.rows), folds[0][f"{OURS}/recurrence"].shape[1]), dtype=np.float64)
    for fold in folds:
        forecast[fold["test"].astype(int)] = 1.0 - fold[f"{OURS}/recurrence"]
    return findings(work, forecast, data.digest)


def findings(work: Study, forecast: NDArray[np.float64], digest: str) -> Findings:
    """Score the schedules. forecast: (n, 20), fraction recurred by each quarter, of rows the fit did not see."""
    policy = replace(load_policy(), adapts_follow_up=True)
    horizons = Landmark(time=datetime.min.replace(tzinfo=UTC)).horizons
    average = _curve(forecast.mean(axis=0), horizons)
    recurrences = [
        replayed
        for row, curve in zip(work.rows, forecast, strict=True)
        if (replayed := _replayed(row, _curve(curve, horizons))) is not None
    ]
    table = _scored(recurrences, lambda one: schedule_at(one.elapsed, policy, None))
    shared = _scored(recurrences, lambda one: schedule_at(one.elapsed, policy, average))
    own = _scored(recurrences, lambda one: schedule_at(one.elapsed, policy, one.curve))
    gained = _interval(table[0] - own[0])
    beyond = _interval(shared[0] - own[0])
    return Findings(
        slug="follow_up",
        title="Follow-up: intervals from the predicted recurrence against the guideline's table (simulation)",
        data=digest,
        paragraphs=(
            f"{len(recurrences)} recurrences of HANCOCK within five years of the landmark, forecast in 5-fold "
            "cross-validation by models that did not see the patient, replayed against three schedules: the table of "
            "`mappings/follow_up.toml`; one schedule for all, from the mean forecast; and each patient's own. All stay "
            "inside the guideline's bounds; none has more visits than the table.",
            "A simulation: it takes the recorded day of recurrence for the first day on which a visit could have found "
            "it. It says nothing of survival; no trial shows that earlier detection prolongs it.",
        ),
        gates=(
            Gate(
                name="mean delay saved over the table, months",
                wanted="> 0, interval above 0",
                measured=_words(gained),
                passed=gained[1] > 0,
            ),
            Gate(
                name="of it, over one schedule for all: what the patient's own risk adds",
                wanted="> 0, interval above 0",
                measured=_words(beyond),
                passed=beyond[1] > 0,
            ),
        ),
        tables=(
            Table(
                caption="Mean wait from recurrence to the next clinical visit",
                header=("schedule", "months of delay", "visits within five years of surgery"),
                rows=(
                    ("guideline's table", float(table[0].mean()), float(table[1].mean())),
                    ("one schedule for all", float(shared[0].mean()), float(shared[1].mean())),
                    ("the patient's own", float(own[0].mean()), float(own[1].mean())),
                ),
            ),
        ),
    )


def _replayed(row: LandmarkRow, curve: Curve) -> Replayed | None:
    """The recurrence of one patient; None where none is recorded before the schedules end."""
    elapsed = int(row.model_input.years_since_surgery * _MONTHS_PER_YEAR)
    if row.illness_days is None:
        return None
    month = row.illness_days / _DAYS_PER_MONTH
    return Replayed(elapsed=elapsed, month=month, curve=curve) if month + elapsed < _LAST_MONTH else None


def _curve(quarters: NDArray[np.float64], horizons: Sequence[int]) -> Curve:
    """The forecast as the service holds it: at the landmark's horizons only."""
    return [(horizon, float(quarters[horizon // 3 - 1])) for horizon in horizons]


def _scored(
    recurrences: Sequence[Replayed], plan: Callable[[Replayed], tuple[FollowUpVisit, ...]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Months of delay and clinical visits within five years of surgery, one of each per recurrence."""
    policy = load_policy()
    clinic = {row.code for row in policy.visits if row.kind == "Appointment"}
    delays, visits = [], []
    for one in recurrences:
        months = visit_months(visit for visit in plan(one) if visit.activity in clinic)
        delays.append(min(month for month in months if month >= one.month) - one.month)
        visits.append(sum(month + one.elapsed <= _LAST_MONTH for month in months))
    return np.array(delays), np.array(visits, dtype=np.float64)


def _interval(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """The mean and its 95 percent bootstrap interval over patients."""
    draw = np.random.default_rng(_SEED)
    means = draw.choice(differences, size=(_SAMPLES, len(differences))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(differences.mean()), float(low), float(high)


def _words(interval: tuple[float, float, float]) -> str:
    return f"{interval[0]:+.2f} ({interval[1]:+.2f} to {interval[2]:+.2f})"
