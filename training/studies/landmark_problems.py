"""Which patients of which disease stand at which landmark, and how a model sees them. Wrong disease, all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.cohorts.longitudinal import LongitudinalPatient
from training.studies.landmark_tables import (
    Describe,
    age_of_newest,
    last_known,
    logarithm,
    mean_of_newest,
    recent,
    slope,
)

YEARS_PER_WEEK = 7.0 / 365.25
_GRID = tuple(0.5 * step for step in range(17))  # landmarks that train the net: every half year to eight years
_LABS = (
    "bilirubin_mg_per_dl", "albumin_g_per_dl", "alkaline_phosphatase_u_per_l", "ast_u_per_ml", "platelets_10_9_per_l",
    "prothrombin_s", "cholesterol_mg_per_dl", "histologic_stage", "ascites", "hepatomegaly", "spiders", "edema",
)  # fmt: skip
_BILIRUBIN, _ALBUMIN, _PROTHROMBIN = "bilirubin_mg_per_dl", "albumin_g_per_dl", "prothrombin_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One data set: where patients stand, how far they are forecast, and how a model sees them. Times in years."""

    landmarks: tuple[float, ...]
    horizon: float
    plain: Describe
    engineered: Describe
    dynamic: Describe
    interval: float = 0.5  # of the net's grid; eight of them reach the horizon
    training_landmarks: tuple[float, ...] = _GRID


def _liver_plain(patient: LongitudinalPatient, landmark: float) -> list[float]:
    known = last_known(patient, landmark)
    entry = patient.baseline
    return [entry["age_years"], entry["female"], entry["penicillamine"], *(known.get(lab, math.nan) for lab in _LABS)]


def _liver_engineered(patient: LongitudinalPatient, landmark: float) -> list[float]:
    """Logarithms and the Mayo score of Dickson et al., Hepatology 1989;10:1, at the landmark's age."""
    known = last_known(patient, landmark)
    bilirubin, albumin, prothrombin = (logarithm(known, name) for name in (_BILIRUBIN, _ALBUMIN, _PROTHROMBIN))
    age, edema = patient.baseline["age_years"] + landmark, known.get("edema", math.nan)
    mayo = 0.871 * bilirubin - 2.53 * albumin + 0.039 * age + 2.38 * prothrombin + 0.859 * edema
    others = ("alkaline_phosphatase_u_per_l", "ast_u_per_ml", "platelets_10_9_per_l")
    flags = ("histologic_stage", "ascites", "hepatomegaly", "spiders")
    return [
        age, patient.baseline["female"], bilirubin, albumin, prothrombin, mayo,
        *(logarithm(known, name) for name in others), *(known.get(name, math.nan) for name in flags), edema,
    ]  # fmt: skip


def _liver_dynamic(patient: LongitudinalPatient, landmark: float) -> list[float]:
    """What was last known, how old it is, where it is heading, and its mean over the last three visits."""
    return [
        *_liver_engineered(patient, landmark), age_of_newest(patient, landmark), landmark,
        slope(patient, landmark, _BILIRUBIN), slope(patient, landmark, _ALBUMIN),
        *(recent(patient, landmark, name) for name in (_BILIRUBIN, _ALBUMIN, _PROTHROMBIN)),
    ]  # fmt: skip


def _prothrombin_plain(patient: LongitudinalPatient, landmark: float) -> list[float]:
    return [patient.baseline["prednisone"], last_known(patient, landmark).get("prothrombin_index", math.nan)]


def _prothrombin_engineered(patient: LongitudinalPatient, landmark: float) -> list[float]:
    return [*_prothrombin_plain(patient, landmark), logarithm(last_known(patient, landmark), "prothrombin_index")]


def _prothrombin_dynamic(patient: LongitudinalPatient, landmark: float) -> list[float]:
    name = "prothrombin_index"
    return [
        *_prothrombin_engineered(patient, landmark), age_of_newest(patient, landmark), landmark,
        slope(patient, landmark, name), recent(patient, landmark, name),
    ]  # fmt: skip


def _leukaemia_plain(patient: LongitudinalPatient, landmark: float) -> list[float]:
    entry, known = patient.baseline, last_known(patient, landmark)
    return [entry["sokal"], entry["age_years"], known.get("log_white_count", math.nan)]


def _leukaemia_dynamic(patient: LongitudinalPatient, landmark: float) -> list[float]:
    name = "log_white_count"
    return [
        *_leukaemia_plain(patient, landmark), age_of_newest(patient, landmark), landmark,
        mean_of_newest(patient, landmark, name, 5),
    ]  # fmt: skip


def _hiv_plain(patient: LongitudinalPatient, landmark: float) -> list[float]:
    entry, known = patient.baseline, last_known(patient, landmark)
    return [
        entry["didanosine"], entry["male"], entry["aids_before"], entry["zidovudine_failed"],
        known.get("root_cd4", math.nan),
    ]  # fmt: skip


def _hiv_dynamic(patient: LongitudinalPatient, landmark: float) -> list[float]:
    name = "root_cd4"
    return [
        *_hiv_plain(patient, landmark), age_of_newest(patient, landmark), landmark,
        mean_of_newest(patient, landmark, name, 3),
    ]  # fmt: skip


PBC = Problem(
    landmarks=(0.0, 104 * YEARS_PER_WEEK, 208 * YEARS_PER_WEEK),
    horizon=208 * YEARS_PER_WEEK,
    plain=_liver_plain,
    engineered=_liver_engineered,
    dynamic=_liver_dynamic,
)
CSL = Problem(
    landmarks=(0.0, 1.0, 2.0),
    horizon=3.0,
    plain=_prothrombin_plain,
    engineered=_prothrombin_engineered,
    dynamic=_prothrombin_dynamic,
)
CML = Problem(
    landmarks=(1.0, 2.0, 3.0),
    horizon=3.0,
    plain=_leukaemia_plain,
    engineered=_leukaemia_plain,
    dynamic=_leukaemia_dynamic,
)
HIV = Problem(
    landmarks=(0.0, 0.25, 0.5),
    horizon=0.75,
    plain=_hiv_plain,
    engineered=_hiv_plain,
    dynamic=_hiv_dynamic,
    interval=0.125,
    training_landmarks=(0.0, 0.25, 0.5, 0.75, 1.0),
)
