"""The immortal-time trap in TCGA: adjuvant treatment counted from diagnosis looks like a cure. Never an effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.cohorts.tcga_treatment import TreatedPatient
from training.studies.findings import Answer, Gate, Table
from training.studies.measures import Outcomes
from training.studies.treatment_effect import hazard_ratio, shown

DAYS_PER_YEAR = 365.25
_LANDMARKS_DAYS = (0.0, 120.0, 180.0)
_LATEST_START_DAYS = 180.0  # later radiotherapy treats a recurrence, not a resected tumour
_MOST = 0.5


def immortal_share(patients: Sequence[TreatedPatient], landmark_days: float) -> float:
    """Share of the treated, of those with a date, who began after the landmark: they had to survive until then."""
    starts = [p.radiotherapy_start_day for p in patients if p.radiotherapy and p.radiotherapy_start_day is not None]
    adjuvant = [start for start in starts if start <= _LATEST_START_DAYS]
    return float(np.mean([start > landmark_days for start in adjuvant]))


def immortal_time(patients: Sequence[TreatedPatient]) -> Answer:
    """Adjuvant radiotherapy against none in TCGA, locally advanced, from three landmarks. Not an effect: a trap."""
    eligible = [p for p in patients if p.advanced and not p.neoadjuvant and p.radiotherapy is not None]
    ratios, rows = {}, []
    for landmark in _LANDMARKS_DAYS:
        followed = [p for p in eligible if p.last_days > landmark]
        outcomes = Outcomes(
            years=np.array([(p.last_days - landmark) / DAYS_PER_YEAR for p in followed]),
            died=np.array([p.died for p in followed]),
        )
        treated = np.array([bool(p.radiotherapy) for p in followed])
        ratios[landmark] = hazard_ratio(outcomes, treated)
        share = immortal_share(eligible, landmark)
        rows.append(
            (f"{landmark:.0f}", len(followed), int(outcomes.died.sum()), shown(ratios[landmark]), f"{share:.0%}")
        )
    trap, honest = np.exp(ratios[0.0].mean), np.exp(ratios[120.0].mean)
    detected = bool(immortal_share(eligible, 0.0) > _MOST and trap < honest)
    return Answer(
        tables=(
            Table(
                caption="Immortal time in TCGA: any adjuvant radiotherapy against none",
                header=(
                    "landmark (days from diagnosis)",
                    "patients",
                    "deaths",
                    "HR (95 % interval)",
                    "treated begin later",
                ),
                rows=tuple(rows),
            ),
        ),
        gates=(
            Gate(
                name="landmark 0 named as immortal time",
                wanted="every treated patient begins after it, and its HR is the lower",
                measured=f"HR {trap:.2f} at 0, {honest:.2f} at 120 days",
                passed=detected,
            ),
        ),
    )
