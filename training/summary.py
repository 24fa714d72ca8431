"""From held-out forecasts to the numbers of the report: per model and endpoint, per study, paired, by subgroup."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.cohorts.landmarks import LandmarkRow
from training.crossvalidate import BASELINES, FOLDS, OURS, PARTS, SEED, Forecasts, Study
from training.metrics import (
    YEAR_2,
    YEAR_3,
    YEAR_5,
    Calibration,
    Curves,
    Discrimination,
    Seen,
    bootstrap_error,
    calibrate_at,
    d_calibration,
    discriminate,
    harrell,
    paired_difference,
)
from training.outcomes import ENDPOINTS, outcomes
from training.overlap import Overlap

_BOOTSTRAPS = 200
_FEWEST_EVENTS = 20
_OLD = 70.0  # years
MODELS = (OURS, *PARTS, *BASELINES)  # in the order of the tables; the last tells nobody apart
MEASURES = ("harrell", "uno", "auc", "brier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A measure over the folds."""

    mean: float
    sd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRow:
    """Held-out forecasts of whole repeats, means over the repeats. d: median p of D-calibration."""

    model: str
    endpoint: str
    year: int
    expected: float
    observed: float
    slope: float
    slope_error: float
    d: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """Held-out forecasts of the first repeat. None where fewer than twenty events were seen. error: of the C."""

    name: str
    endpoint: str
    count: int
    events: int
    concordance: float | None
    error: float | None
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One fitted set, another tested: concordance by model, our own standard error by bootstrap, calibration."""

    endpoint: str
    count: int
    events: int
    concordance: Mapping[str, float]
    error: float
    calibration: Calibration


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Everything the report prints.

    landmark, published: scores by model and endpoint, fold by fold. scales: of the three transitions, mean over the
    folds. oropharynx: recurrence and survival AUC by the published tasks. shuffled: RFS and OS concordance after
    training on exchanged outcomes. duplicates: pairs with the same inputs, and how many
    of them are copies. rare: the fraction with a typicality below
    0.05, held out and in the second cohort. widths: median of the band at five years, recurrence and death.
    overlaps: of the treatments given in TCGA-HNSC.
    """

    counts: Mapping[str, int]
    landmark: Mapping[tuple[str, str], Sequence[Discrimination]]
    published: Mapping[tuple[str, str], Sequence[Discrimination]]
    calibration: tuple[CalibrationRow, ...]
    scales: tuple[float, ...]
    subgroups: tuple[Subgroup, ...]
    transfer: tuple[Transfer, ...]
    reverse: tuple[Transfer, ...]
    oropharynx: tuple[float, float]
    shuffled: tuple[float, float]
    duplicates: tuple[int, int]
    rare: tuple[float, float]
    widths: tuple[float, float]
    overlaps: tuple[Overlap, ...]


def seen_of(rows: Sequence[LandmarkRow], endpoint: str) -> Seen:
    """What happened to the rows."""
    events, days = outcomes(rows, endpoint)
    return Seen(events=events, days=days)


def scores(study: Study, forecasts: Sequence[Forecasts]) -> dict[tuple[str, str], list[Discrimination]]:
    """Of every model that was asked and endpoint, in the order of the folds."""
    table: dict[tuple[str, str], list[Discrimination]] = {}
    models = [model for model in MODELS if f"{model}/{ENDPOINTS[0]}" in forecasts[0]]
    for endpoint in ENDPOINTS:
        seen = seen_of(study.rows, endpoint)
        for (train, test), forecast in zip(study.splits(), forecasts, strict=True):
            for model in models:
                curves = forecast[f"{model}/{endpoint}"].astype(np.float64)
                entry = discriminate(curves, seen.part(test), seen.part(train))
                table.setdefault((model, endpoint), []).append(entry)
    return table


def spread(table: Mapping[tuple[str, str], Sequence[Discrimination]], model: str, endpoint: str, name: str) -> Spread:
    """Mean and standard deviation of one measure over the folds."""
    values = [getattr(entry, name) for entry in table[model, endpoint]]
    return Spread(mean=float(np.mean(values)), sd=float(np.std(values)))


def difference(
    table: Mapping[tuple[str, str], Sequence[Discrimination]], endpoint: str, against: str, name: str
) -> tuple[float, float]:
    """Ours minus a baseline over the same folds, and the Nadeau-Bengio standard error."""
    ours, theirs = ([getattr(entry, name) for entry in table[model, endpoint]] for model in (OURS, against))
    return paired_difference(ours, theirs, FOLDS)


def pooled(forecasts: Sequence[Forecasts], key: str) -> Iterator[Curves]:
    """Per repeat, the held-out value of every row, in the order of the rows."""
    for start in range(0, len(forecasts), FOLDS):
        parts = forecasts[start : start + FOLDS]
        order = np.concatenate([part["test"] for part in parts])
        values = np.concatenate([part[key] for part in parts]).astype(np.float64)
        yield values[np.argsort(order)]


def calibrations(study: Study, forecasts: Sequence[Forecasts]) -> Iterator[CalibrationRow]:
    """At two and five years, ours with and without calibration and the engineered Cox."""
    for model in (OURS, "not calibrated", "engineered Cox"):
        for endpoint in ENDPOINTS:
            seen = seen_of(study.rows, endpoint)
            repeats = list(pooled(forecasts, f"{model}/{endpoint}"))
            spread_p = float(np.median([d_calibration(curves, seen) for curves in repeats]))
            for quarter in (YEAR_2, YEAR_5):
                rows = [calibrate_at(curves, seen, quarter) for curves in repeats]
                yield CalibrationRow(
                    model=model,
                    endpoint=endpoint,
                    year=(quarter + 1) // 4,
                    expected=float(np.mean([row.expected for row in rows])),
                    observed=rows[0].observed,
                    slope=float(np.mean([row.slope for row in rows])),
                    slope_error=float(np.mean([row.slope_error for row in rows])),
                    d=spread_p,
                )


def subgroups(study: Study, forecasts: Sequence[Forecasts]) -> Iterator[Subgroup]:
    """By sex, age, site and p16."""
    static = np.stack([row.model_input.static for row in study.rows])
    known = np.stack([row.model_input.static_mask for row in study.rows]) > 0
    place = {entry.name: index for index, entry in enumerate(study.contract.static)}

    def column(name: str) -> NDArray[np.float32]:
        return np.where(known[:, place[name]], static[:, place[name]], np.nan)

    groups = {
        "men": column("male") > 0,
        "women": column("male") == 0,
        "under 70 years": column("age_at_surgery") < _OLD,
        "70 years and over": column("age_at_surgery") >= _OLD,
        **{name.replace("_", " "): column(name) > 0 for name in ("oral_cavity", "oropharynx", "hypopharynx", "larynx")},
        "p16 positive": column("p16") > 0,
        "p16 negative": column("p16") < 0,
        "p16 not known": np.isnan(column("p16")),
    }
    for endpoint in ENDPOINTS:
        seen, curves = seen_of(study.rows, endpoint), next(pooled(forecasts, f"{OURS}/{endpoint}"))
        for name, chosen in groups.items():
            part, events = seen.part(chosen), int(seen.events[chosen].sum())
            enough = events >= _FEWEST_EVENTS
            at_5 = calibrate_at(curves[chosen], part, YEAR_5) if enough else None
            risk = 1.0 - curves[chosen][:, YEAR_3]
            yield Subgroup(
                name=name,
                endpoint=endpoint,
                count=int(chosen.sum()),
                events=events,
                concordance=harrell(risk, part) if enough else None,
                error=bootstrap_error(risk, part, _BOOTSTRAPS, SEED) if enough else None,
                ratio=None if at_5 is None else at_5.observed / at_5.expected,
            )


def transfers(study: Study, forecasts: Sequence[Forecasts]) -> Iterator[Transfer]:
    """Of a study with one tested set."""
    (_, test), forecast = study.splits()[0], forecasts[0]
    rows = [study.rows[index] for index in test]
    for endpoint in ENDPOINTS:
        seen = seen_of(rows, endpoint)
        asked = [name for name in MODELS[:-1] if f"{name}/{endpoint}" in forecast]
        risks = {name: 1.0 - forecast[f"{name}/{endpoint}"][:, YEAR_3].astype(np.float64) for name in asked}
        yield Transfer(
            endpoint=endpoint,
            count=len(rows),
            events=int(seen.events.sum()),
            concordance={name: harrell(risk, seen) for name, risk in risks.items()},
            error=bootstrap_error(risks[OURS], seen, _BOOTSTRAPS, SEED),
            calibration=calibrate_at(forecast[f"{OURS}/{endpoint}"].astype(np.float64), seen, YEAR_2),
        )
