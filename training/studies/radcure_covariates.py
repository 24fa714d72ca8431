"""RADCURE rows as columns: plain one-hot columns for the baseline, engineered ones for the strong model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from training.cohorts.radcure import RadcurePatient
from training.studies.measures import Floats

Column = Callable[[RadcurePatient], float]
_UNKNOWN = math.nan  # becomes the training mean
_SITES = (
    "oropharynx", "larynx", "nasopharynx", "hypopharynx", "oral_cavity", "unknown_primary", "sinonasal", "other",
)  # fmt: skip
_TUMOURS = ("T0", "Tis", "T1", "T1a", "T1b", "T2", "T2a", "T2b", "T3", "T4", "T4a", "T4b")
_NODES = ("N0", "N1", "N2", "N2a", "N2b", "N2c", "N3", "N3a", "N3b")
_STAGES = ("0", "I", "II", "III", "IV", "IVA", "IVB", "IVC")
_SMOKING = ("current", "former", "never")
_MODALITIES = ("radiotherapy", "chemoradiotherapy", "radiotherapy_egfr")
_SUBSITES = (
    "glottis", "supraglottis", "subglottis", "base of tongue", "tonsil", "tonsillar fossa", "tonsil pillar",
    "soft palate", "pyriform sinus", "lat wall", "post wall", "sup wall",
)  # fmt: skip
_NODE_LEVELS = {"N0": 0.0, "N1": 1.0, "N2": 2.0, "N2a": 1.7, "N2b": 2.0, "N2c": 2.5, "N3": 3.0, "N3a": 3.0, "N3b": 3.0}
_AGE_HINGES = (55.0, 70.0)
_MANY_PACK_YEARS = 10.0
_HYPERFRACTIONATED, _SMALL_DOSE_GY = 40.0, 60.0  # fractions; Gy
_TYPICAL_AGE = 62.0  # centres an interaction; the main effect has a column of its own


def plain_columns(patients: Sequence[RadcurePatient]) -> Floats:
    """(N, P): numbers as they are and one column per code. What an analyst would enter first."""
    columns: list[Column] = [
        lambda p: p.age_years, lambda p: float(p.male), lambda p: _or_unknown(p.ecog),
        lambda p: _or_unknown(p.pack_years), lambda p: p.dose_gy, lambda p: p.fractions,
        lambda p: float(p.concurrent_chemotherapy),
        *_one_hot(lambda p: p.smoking, _SMOKING), *_one_hot(lambda p: p.site, _SITES),
        *_one_hot(lambda p: p.tumour, _TUMOURS), *_one_hot(lambda p: p.nodes, _NODES),
        *_one_hot(lambda p: p.stage, _STAGES), *_one_hot(lambda p: p.p16, ("positive", "negative")),
        *_one_hot(lambda p: p.modality, _MODALITIES),
    ]  # fmt: skip
    return _table(columns, patients)


def stage_columns(patients: Sequence[RadcurePatient]) -> Floats:
    """(N, P): one column per stage group of the 7th edition, nothing else."""
    return _table(_one_hot(lambda p: p.stage, _STAGES), patients)


def engineered_columns(patients: Sequence[RadcurePatient]) -> Floats:
    """(N, P): hinges, thresholds, logarithms and the interactions that the disease suggests."""
    return _table([*_person(), *_disease(), *_treatment()], patients)


def _person() -> list[Column]:
    """Age hinges (years), performance thresholds, log pack-years, smoking; what is missing has a flag."""
    return [
        lambda p: p.age_years, *(_hinge(hinge) for hinge in _AGE_HINGES), lambda p: float(p.male),
        *(_at_least(lambda p: p.ecog, grade) for grade in (1.0, 2.0, 3.0)), lambda p: float(p.ecog is None),
        lambda p: _UNKNOWN if p.pack_years is None else math.log1p(p.pack_years),
        *(_at_least(lambda p: p.pack_years, amount) for amount in (10.0, 40.0)), lambda p: float(p.pack_years is None),
        *_one_hot(lambda p: p.smoking, _SMOKING),
    ]  # fmt: skip


def _disease() -> list[Column]:
    """Site, subsite, p16 within the oropharynx, T and N as levels and thresholds, histology."""
    return [
        *_one_hot(lambda p: p.site, _SITES), *_one_hot(lambda p: p.subsite, _SUBSITES),
        *_one_hot(lambda p: p.p16, ("positive", "negative")),
        lambda p: float(p.p16 == "positive" and p.site == "oropharynx"),
        lambda p: float(p.p16 == "negative" and p.site == "oropharynx"),
        lambda p: float(p.p16 is None and p.site == "oropharynx"),
        _intermediate_risk,
        _tumour_level, *(_at_least(_tumour_level, level) for level in (2.0, 3.0, 4.0, 4.5)),
        lambda p: float(p.tumour is None), lambda p: float(p.tumour == "Tis"), lambda p: float(p.tumour == "T1b"),
        _node_level, *(_at_least(_node_level, level) for level in (1.0, 2.0, 2.5, 3.0)),
        lambda p: float(p.nodes is None),
        lambda p: _tumour_level(p) * float(p.site == "oropharynx"),
        lambda p: _tumour_level(p) * float(p.site == "larynx"),
        lambda p: _node_level(p) * float(p.site == "larynx"), lambda p: _node_level(p) * float(p.site == "hypopharynx"),
        lambda p: float("squamous" in p.histology.casefold()), lambda p: float(p.histology.startswith("NPC")),
    ]  # fmt: skip


def _treatment() -> list[Column]:
    """Dose in all and per fraction (Gy), chemotherapy and what decides about it."""
    return [
        lambda p: p.dose_gy, lambda p: p.dose_gy / p.fractions, lambda p: float(p.fractions >= _HYPERFRACTIONATED),
        lambda p: float(p.dose_gy < _SMALL_DOSE_GY), *_one_hot(lambda p: p.modality, _MODALITIES),
        lambda p: float(p.concurrent_chemotherapy),
        lambda p: float(p.concurrent_chemotherapy) * (p.age_years - _TYPICAL_AGE),
        lambda p: float(p.concurrent_chemotherapy) * _node_level(p),
        lambda p: float(p.concurrent_chemotherapy) * _tumour_level(p),
        lambda p: float(p.concurrent_chemotherapy and p.p16 == "positive"),
        lambda p: float(p.concurrent_chemotherapy and p.site == "nasopharynx"),
    ]  # fmt: skip


def _table(columns: Sequence[Column], patients: Sequence[RadcurePatient]) -> Floats:
    return np.array([[column(patient) for column in columns] for patient in patients], dtype=np.float64)


def _one_hot(code: Callable[[RadcurePatient], str | None], codes: Sequence[str]) -> list[Column]:
    return [lambda p, wanted=wanted: float(code(p) == wanted) for wanted in codes]  # type: ignore[misc]


def _at_least(value: Callable[[RadcurePatient], float | None], level: float) -> Column:
    def column(patient: RadcurePatient) -> float:
        found = value(patient)
        return _UNKNOWN if found is None or math.isnan(found) else float(found >= level)

    return column


def _hinge(age: float) -> Column:
    return lambda patient: max(patient.age_years - age, 0.0)


def _intermediate_risk(patient: RadcurePatient) -> float:
    """p16 positive and more than ten pack-years: Ang et al., N Engl J Med 2010;363:24."""
    if patient.pack_years is None:
        return _UNKNOWN
    return float(patient.p16 == "positive" and patient.pack_years > _MANY_PACK_YEARS)


def _tumour_level(patient: RadcurePatient) -> float:
    """Tis 0.5, T0 0 (an unknown primary), T1 to T4, T4b 4.5."""
    if patient.tumour is None:
        return _UNKNOWN
    if patient.tumour in {"Tis", "T4b"}:
        return {"Tis": 0.5, "T4b": 4.5}[patient.tumour]
    return float(patient.tumour[1])


def _node_level(patient: RadcurePatient) -> float:
    return _UNKNOWN if patient.nodes is None else _NODE_LEVELS[patient.nodes]


def _or_unknown(value: float | None) -> float:
    return _UNKNOWN if value is None else value
