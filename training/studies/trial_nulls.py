"""Randomised trials through the recommender: silent where a trial found nothing, not silent where it found a lot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.cohorts.randomised import (
    RandomisedPatient,
    read_colon_trial,
    read_gastric_adjuvant,
    read_oropharynx_trial,
)
from training.studies.effort import Effort
from training.studies.findings import Answer, Cell, Gate, Table
from training.studies.measures import Floats, Outcomes, stratified_folds
from training.studies.treatment_effect import Advice, advise_from_trial, hazard_ratio, shown

FOLDER = "generic_survival"
FILES = ("pharynx_d.oropha.rec.csv", "gastadj.csv", "colon.csv")
_SEED, _FOLDS, _REPEATS = 20260718, 5, 20
_GATE_ABSTAIN = 0.80


def trial_nulls(data: Path, effort: Effort) -> Answer:
    """Abstention in one null trial and in two real ones with their arms shuffled. data: holds `generic_survival`."""
    folder = data / FOLDER
    repeats = _REPEATS if effort is Effort.FULL else 1
    trials: tuple[tuple[str, tuple[RandomisedPatient, ...]], ...] = (
        ("oropharynx (head and neck), a null", read_oropharynx_trial(folder)),
        ("gastric, adjuvant", read_gastric_adjuvant(folder)),
        ("colon, adjuvant", read_colon_trial(folder)),
    )
    rows: list[tuple[Cell, ...]] = []
    silence: dict[str, float] = {}
    for name, patients in trials:
        outcomes, treated = _outcomes(patients), np.array([patient.treated for patient in patients])
        advice = _cross_fitted(patients, treated, repeats)
        rows.append((name, len(patients), shown(hazard_ratio(outcomes, treated)), *_shares(advice)))
        silence[name] = _shares(advice)[0]
        if patients is trials[0][1]:
            continue
        draw = np.random.default_rng(_SEED)
        shuffled = np.concatenate([_cross_fitted(patients, draw.permutation(treated), 1) for _ in range(repeats)])
        rows.append((f"{name}, arms shuffled: a null", len(patients), None, *_shares(shuffled)))
        silence[f"{name}, arms shuffled"] = _shares(shuffled)[0]
    null = [name for name in silence if "null" in name or "shuffled" in name]
    return Answer(
        tables=(
            Table(
                caption=f"Randomised trials: advice from four fifths for one fifth, {repeats} repeats",
                header=("trial", "patients", "arm HR (95 % interval)", "abstains", "treat", "withhold"),
                rows=tuple(rows),
            ),
        ),
        gates=tuple(
            Gate(
                name=f"abstains: {name}",
                wanted=f">= {_GATE_ABSTAIN:.0%}",
                measured=f"{silence[name]:.0%}",
                passed=silence[name] >= _GATE_ABSTAIN,
            )
            for name in null
        ),
    )


def _cross_fitted(patients: Sequence[RandomisedPatient], treated: NDArray[np.bool_], repeats: int) -> NDArray[np.int64]:
    """Advice for everyone, `repeats` times."""
    outcomes, table = _outcomes(patients), _columns(patients)
    advice = [
        advise_from_trial(table, treated, outcomes, train, test)
        for train, test in stratified_folds(outcomes.died, folds=_FOLDS, repeats=repeats, seed=_SEED)
    ]
    return np.concatenate(advice)


def _columns(patients: Sequence[RandomisedPatient]) -> Floats:
    """Covariates, (N, P); the trial of a pooled set becomes one column per trial."""
    names = sorted({name for patient in patients for name in patient.covariates})
    if names == ["trial"]:
        trials = sorted({patient.covariates["trial"] for patient in patients})
        return np.array([[float(patient.covariates["trial"] == trial) for trial in trials] for patient in patients])
    return np.array([[patient.covariates.get(name, np.nan) for name in names] for patient in patients])


def _outcomes(patients: Sequence[RandomisedPatient]) -> Outcomes:
    return Outcomes(
        years=np.array([patient.years for patient in patients]), died=np.array([patient.died for patient in patients])
    )


def _shares(advice: NDArray[np.int64]) -> tuple[float, float, float]:
    """Abstained, treat, withhold, each 0 to 1."""
    shares = [float((advice == one).mean()) for one in (Advice.ABSTAIN, Advice.TREAT, Advice.WITHHOLD)]
    return shares[0], shares[1], shares[2]
