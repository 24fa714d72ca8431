"""A longitudinal patient seen from a landmark: what was last known, how old it is, and what happened afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.cohorts.longitudinal import LongitudinalPatient
from training.studies.measures import Floats, Outcomes

Known = Mapping[str, float]
Describe = Callable[[LongitudinalPatient, float], Sequence[float]]
_SHORTEST = 1e-6  # years: an event on the landmark's day lies just after it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LandmarkTable:
    """table: (N, P), NaN where nothing was known. outcomes: years from the landmark. patients: index of each row."""

    table: Floats
    outcomes: Outcomes
    patients: np.ndarray


def at_landmark(patients: Sequence[LongitudinalPatient], years: float, describe: Describe) -> LandmarkTable:
    """Everyone still followed after the landmark, once."""
    return at_landmarks(patients, lambda _: (years,), describe)


def at_landmarks(
    patients: Sequence[LongitudinalPatient],
    landmarks: Callable[[LongitudinalPatient], Sequence[float]],
    describe: Describe,
) -> LandmarkTable:
    """Everyone at each landmark of theirs that they outlived: one row each."""
    seen = [
        (place, patient, landmark)
        for place, patient in enumerate(patients)
        for landmark in landmarks(patient)
        if patient.years > landmark + _SHORTEST
    ]
    return LandmarkTable(
        table=np.array([describe(patient, landmark) for _, patient, landmark in seen], dtype=np.float64),
        outcomes=Outcomes(
            years=np.array([patient.years - landmark for _, patient, landmark in seen]),
            died=np.array([patient.died for _, patient, _ in seen]),
        ),
        patients=np.array([place for place, _, _ in seen]),
    )


def last_known(patient: LongitudinalPatient, landmark: float) -> dict[str, float]:
    """The newest value of everything measured at or before the landmark; a later visit changes nothing."""
    known: dict[str, float] = {}
    for visit in patient.visits:
        if visit.years <= landmark:
            known |= visit.values
    return known


def age_of_newest(patient: LongitudinalPatient, landmark: float) -> float:
    """Years from the newest visit to the landmark; NaN where there was none."""
    return min((landmark - visit.years for visit in patient.visits if visit.years <= landmark), default=math.nan)


def slope(patient: LongitudinalPatient, landmark: float, name: str) -> float:
    """Least-squares change per year of the logarithm of one value, over visits so far; 0 with fewer than two."""
    points = [
        (visit.years, math.log(visit.values[name]))
        for visit in patient.visits
        if visit.years <= landmark and visit.values.get(name, 0.0) > 0.0
    ]
    times = np.array([time for time, _ in points])
    spread = float(((times - times.mean()) ** 2).sum()) if points else 0.0
    if spread <= _SHORTEST:
        return 0.0
    values = np.array([value for _, value in points])
    return float(((times - times.mean()) * values).sum() / spread)


def logarithm(known: Known, name: str) -> float:
    """Natural logarithm; NaN where there is no positive value."""
    value = known.get(name, math.nan)
    return math.log(value) if value > 0.0 else math.nan


def recent(patient: LongitudinalPatient, landmark: float, name: str) -> float:
    """Mean logarithm of one value over its newest three visits so far; NaN where there is none."""
    values = [
        math.log(visit.values[name])
        for visit in patient.visits
        if visit.years <= landmark and visit.values.get(name, 0.0) > 0.0
    ]
    return float(np.mean(values[-3:])) if values else math.nan


def mean_of_newest(patient: LongitudinalPatient, landmark: float, name: str, count: int) -> float:
    """Mean of one value, as it is, over its newest visits so far; NaN where there is none."""
    values = [visit.values[name] for visit in patient.visits if visit.years <= landmark and name in visit.values]
    return float(np.mean(values[-count:])) if values else math.nan
